#!lua
-- Spans of many traces of one bucket: append their entries, and queue a look at each trace.
-- KEYS: queue, counts, books, the list of each trace, and the zstd dictionary if one is used.
-- ARGV: when to look (us), TTL (s), whether a dictionary is used (1 or 0), number of projects, then
--       project and spans of each; then for each trace its name, spans, number of entries, entries.
-- Returns the length of each list; NODICTIONARY, and nothing is written, where that is not there.
-- Denied when memory is full, before anything is written: there are no flags to say otherwise.
local queue, counts, books = KEYS[1], KEYS[2], KEYS[3]
local score, ttl = ARGV[1], ARGV[2]
local n_traces = #KEYS - 3
if ARGV[3] == '1' then
  n_traces = n_traces - 1
  if redis.call('EXPIRE', KEYS[#KEYS], 3 * ttl) == 0 then
    return redis.error_reply('NODICTIONARY the dictionary of these entries is not in their slot')
  end
end
local at = 5 + 2 * tonumber(ARGV[4])
local names, added, scores, lengths, fresh = {}, {}, {}, {}, {}
for i = 1, n_traces do
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
local total = 0
for i = 5, 3 + 2 * tonumber(ARGV[4]), 2 do
  redis.call('HINCRBY', books, 'h:' .. ARGV[i], ARGV[i + 1])
  total = total + ARGV[i + 1]
end
redis.call('HINCRBY', books, 'i', total)
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
