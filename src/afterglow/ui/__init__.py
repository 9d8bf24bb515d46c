"""The command line: print and draw, decide nothing.

Nothing here is imported by `import afterglow`, and `afterglow run` imports neither click nor
rich before the watched program has ended (cli.py says how).
"""
