#!lua flags=allow-oom
-- One sign of life of a host that shares out the shards: it renews what it has, and learns who
-- else is there and what is free. Which of them it wants is decided by lease_plan.py.
-- KEYS: hosts, then one key a shard. ARGV: this host, 'stay' or 'leave', ms of a lease, then one
-- word a shard: 'keep' (renew, or take if free), 'drop' (give back), '' (look).
-- Returns the live hosts, then the owner of each shard ('' for none).
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local host, lease_ms = ARGV[1], tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms - lease_ms))
if ARGV[2] == 'stay' then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms), host)
else
  redis.call('ZREM', KEYS[1], host)
end
local owners = {}
for i = 2, #KEYS do
  local wish = ARGV[i + 2]
  local owner = redis.call('GET', KEYS[i]) or ''
  if wish == 'keep' and (owner == '' or owner == host) then
    redis.call('SET', KEYS[i], host, 'PX', lease_ms)
    owner = host
  elseif wish == 'drop' and owner == host then
    redis.call('DEL', KEYS[i])
    owner = ''
  end
  owners[i - 1] = owner
end
return {redis.call('ZRANGE', KEYS[1], 0, -1), owners}
