#!lua
-- Spans of many traces of one bucket: append their entries, and queue a look at each trace.
-- KEYS: queue, counts, books, then the list of each trace.
-- ARGV: when to look (us), TTL (s), number of projects, then project and spans of each;
--       then for each trace its name, spans, number of entries, entries.
-- Returns the length of each list.
-- Denied when memory is full, before anything is written: there are no flags to say otherwise.
local queue, counts, books = KEYS[1], KEYS[2], KEYS[3]
local score, ttl = ARGV[1], ARGV[2]
local at = 4
local total = 0
for _ = 1, tonumber(ARGV[3]) do
  local spans = tonumber(ARGV[at + 1])
  redis.call('HINCRBY', books, 'h:' .. ARGV[at], spans)
  total = total + spans
  at = at + 2
end
redis.call('HINCRBY', books, 'i', total)
local names, added, scores, lengths, fresh = {}, {}, {}, {}, {}
for i = 1, #KEYS - 3 do
  local k = tonumber(ARGV[at + 2])
  local key = KEYS[i + 3]
  local length = redis.call('RPUSH', key, unpack(ARGV, at + 3, at + 2 + k))
  if length == k then
    redis.call('EXPIRE', key, ttl)
    fresh[i] = true
  end
  names[i], added[i], lengths[i] = ARGV[at], tonumber(ARGV[at + 1]), length
  scores[2 * i - 1], scores[2 * i] = score, ARGV[at]
  at = at + 3 + k
end
local held = redis.call('HMGET', counts, unpack(names))
local now = {}
for i, name in ipairs(names) do
  local before = tonumber(held[i] or 0)
  if fresh[i] and before > 0 then
    -- Nobody flushed for so long that Redis let the list go: count what was in it.
    local project = string.match(name, '^(.*):')
    redis.call('HINCRBY', books, 'h:' .. project, -before)
    redis.call('HINCRBY', books, 'x:expired:' .. project, before)
    before = 0
  end
  now[2 * i - 1], now[2 * i] = name, before + added[i]
end
redis.call('HSET', counts, unpack(now))
redis.call('ZADD', queue, 'LT', unpack(scores))
redis.call('EXPIRE', queue, 2 * ttl)
redis.call('EXPIRE', counts, 2 * ttl)
return lengths
