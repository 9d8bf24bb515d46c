#!lua flags=allow-oom
-- Take traces of one bucket: seal what each holds now, or take over what another left sealed.
-- KEYS: queue, owners, counts, books, then list and roots of each trace.
-- ARGV: now (us), now (ns), owner, token, end of the lease (us), TTL (s), entries at most;
--       then for each trace its name, how many entries are known, and how the first begins.
-- A seal that stands while others look puts their look off until its lease is over; that it did so
-- (seal[9]) is why what came meanwhile is looked at as soon as it is settled.
-- A call that is sent again with the same token finds what it sealed.
-- Returns for each trace: false if it is not to be had, else
--   {generation, sealed entries, sealed at (ns), parts that are acknowledged, settlement or '',
--    roots or false, entries known, entries}
local queue, owners, counts, books = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, now_ns, owner, token = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local lease_end, ttl, limit = ARGV[5], ARGV[6], tonumber(ARGV[7])
local names, root_keys = {}, {}
for i = 1, (#KEYS - 4) / 2 do
  names[i] = ARGV[5 + 3 * i]
  root_keys[i] = KEYS[4 + 2 * i]
end
local owned = redis.call('HMGET', owners, unpack(names))
local roots = redis.call('MGET', unpack(root_keys))
local reply, scores, seals = {}, {}, {}
for i, name in ipairs(names) do
  local key = KEYS[3 + 2 * i]
  local seal = owned[i] and cmsgpack.unpack(owned[i])
  if seal and seal[2] ~= token and seal[3] > now then
    reply[i] = false
    scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', seal[3]), name
    if not seal[9] then
      seal[9] = true
      seals[#seals + 1], seals[#seals + 2] = name, cmsgpack.pack(seal)
    end
  else
    if seal then
      seal[2], seal[3], seal[6], seal[9] = token, tonumber(lease_end), owner, true
    else
      local length = redis.call('LLEN', key)
      if length > 0 then
        seal = {token, token, tonumber(lease_end), length, now_ns, owner, '', '', false}
      end
    end
    if seal then
      local known, first = tonumber(ARGV[6 + 3 * i]), ARGV[7 + 3 * i]
      if known > 0 and string.sub(redis.call('LINDEX', key, 0) or '', 1, #first) ~= first then
        known = 0
      end
      local last = math.min(seal[4], known + limit) - 1
      local entries = {}
      if last >= known then
        entries = redis.call('LRANGE', key, known, last)
      end
      reply[i] = {seal[1], seal[4], seal[5], seal[7], seal[8], roots[i], known, entries}
      seals[#seals + 1], seals[#seals + 2] = name, cmsgpack.pack(seal)
      scores[#scores + 1], scores[#scores + 2] = lease_end, name
    else
      -- Nobody flushed for so long that Redis let the list go: count what was in it.
      local spans = tonumber(redis.call('HGET', counts, name) or 0)
      if spans > 0 then
        local project = string.match(name, '^(.*):')
        redis.call('HINCRBY', books, 'h:' .. project, -spans)
        redis.call('HINCRBY', books, 'x:expired:' .. project, spans)
        redis.call('HDEL', counts, name)
      end
      redis.call('ZREM', queue, name)
      reply[i] = false
    end
  end
end
if #seals > 0 then
  redis.call('HSET', owners, unpack(seals))
  redis.call('EXPIRE', owners, ttl)
end
if #scores > 0 then
  redis.call('ZADD', queue, unpack(scores))
end
return reply
