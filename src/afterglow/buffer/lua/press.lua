#!lua flags=allow-oom
-- KEYS: pressure. ARGV: why ingest should wait, for how many ms.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
