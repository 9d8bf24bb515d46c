#!lua flags=no-writes,allow-oom
-- The traces of a bucket to look at now, and how many spans each holds.
-- KEYS: queue, counts. ARGV: now (us), how many at most.
local names = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
if #names == 0 then
  return {names, names}
end
return {names, redis.call('HMGET', KEYS[2], unpack(names))}
