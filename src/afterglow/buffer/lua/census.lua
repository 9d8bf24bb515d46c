#!lua flags=no-writes,allow-oom
-- In which layouts the entries of some traces are; payloads stay here.
-- KEYS: lists of one bucket. ARGV: the first entry to look at of the first list, and after about how
-- many bytes to stop: Lua has no part of an entry without all of it, and no call may be long.
-- Returns how many lists were looked at to their end, the next entry of the one after these, and for
-- each list that was looked at its length, then how many of the entries are inline, colocated only,
-- distributed only, in both.
local STEP = 4
local first, budget = tonumber(ARGV[1]), tonumber(ARGV[2])
local reply = {}
for i, key in ipairs(KEYS) do
  local counts = {redis.call('LLEN', key), 0, 0, 0, 0}
  reply[i] = counts
  while first < counts[1] do
    if budget <= 0 then return {i - 1, first, reply} end
    for _, entry in ipairs(redis.call('LRANGE', key, first, first + STEP - 1)) do
      local at = 2
      if string.byte(entry, 1) == 2 then
        -- What is left of an entry: positions, then the entry (codec.py).
        at = 13 + 4 * struct.unpack('<I4', string.sub(entry, 10, 13)) + 2
      end
      local flags = string.byte(entry, at)
      local colocated = math.floor(flags / 2) % 2
      local distributed = math.floor(flags / 4) % 2
      local which = 2
      if colocated + distributed > 0 then which = 2 + colocated + 2 * distributed end
      counts[which] = counts[which] + 1
      budget = budget - #entry
    end
    first = first + STEP
  end
  first = 0
  budget = budget - 100
end
return {#KEYS, 0, reply}
