-- Copies of entries as they were at a version of their partition, unless newer is there.
-- KEYS: the bucket's index, then entries. ARGV: time to live (ms), version, then values.
local ttl, version = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
local filled = 0
for i = 2, #KEYS do
  local had = string.match(redis.call('GETRANGE', KEYS[i], 0, 20), '^(%d+):')
  if not had or tonumber(had) <= version then
    redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ttl)
    redis.call('ZADD', KEYS[1], now, KEYS[i])
    filled = filled + 1
  end
end
redis.call('PEXPIRE', KEYS[1], ttl)
return filled
