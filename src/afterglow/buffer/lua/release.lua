#!lua flags=allow-oom
-- Give up leases of one bucket: what is sealed stays so, and is due at once for anybody.
-- KEYS: queue, owners. ARGV: name and token of each trace. Returns how many were ours.
local names = {}
for i = 1, #ARGV, 2 do
  names[#names + 1] = ARGV[i]
end
local owned = redis.call('HMGET', KEYS[2], unpack(names))
local ours = 0
for i, name in ipairs(names) do
  local seal = owned[i] and cmsgpack.unpack(owned[i])
  if seal and seal[2] == ARGV[2 * i] then
    seal[3] = 0
    redis.call('HSET', KEYS[2], name, cmsgpack.pack(seal))
    redis.call('ZADD', KEYS[1], 0, name)
    ours = ours + 1
  end
end
return ours
