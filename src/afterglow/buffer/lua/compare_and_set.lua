#!lua flags=allow-oom
-- KEYS: a control key. ARGV: what it must hold ('' for nothing), what it shall hold.
local present = redis.call('GET', KEYS[1]) or ''
if present ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
