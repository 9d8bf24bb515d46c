#!lua flags=no-writes,allow-oom
-- In which layouts some entries of some traces are; payloads stay here.
-- KEYS: lists of one bucket. ARGV: first and last entry to look at.
-- Returns for each list its length, then how many of these entries are inline, colocated only,
-- distributed only, in both.
local reply = {}
for i, key in ipairs(KEYS) do
  local counts = {0, 0, 0, 0}
  for _, entry in ipairs(redis.call('LRANGE', key, ARGV[1], ARGV[2])) do
    local at = 2
    if string.byte(entry, 1) == 2 then
      -- What is left of an entry: positions, then the entry (codec.py).
      at = 13 + 4 * struct.unpack('<I4', string.sub(entry, 10, 13)) + 2
    end
    local flags = string.byte(entry, at)
    local colocated = math.floor(flags / 2) % 2
    local distributed = math.floor(flags / 4) % 2
    local which = 1
    if colocated + distributed > 0 then which = 1 + colocated + 2 * distributed end
    counts[which] = counts[which] + 1
  end
  reply[i] = {redis.call('LLEN', key), counts[1], counts[2], counts[3], counts[4]}
end
return reply
