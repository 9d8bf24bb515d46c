#!lua flags=allow-oom
-- One look at the control keys, and one sign of life.
-- KEYS: rollout, processes, pressure. ARGV: this process's id, what it says of itself (JSON; ''
-- for a look alone), ms after which the silent are forgotten.
-- Returns now_ms, rollout, pressure, ms that the pressure lasts.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' then
  if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
    local all = redis.call('HGETALL', KEYS[2])
    for i = 1, #all, 2 do
      local seen_ms = tonumber(string.match(all[i + 1], '^%d+')) or 0
      if now_ms - seen_ms > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[2], all[i]) end
    end
  end
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now_ms) .. ' ' .. ARGV[2])
end
return {
  string.format('%.0f', now_ms),
  redis.call('GET', KEYS[1]) or '',
  redis.call('GET', KEYS[3]) or '',
  redis.call('PTTL', KEYS[3]),
}
