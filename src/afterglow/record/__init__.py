"""In the program: context, tracer, live span, sampler, and the Profiler face."""
