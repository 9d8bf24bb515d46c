-- Entries change with a version: what was copied before it goes, and cannot come back.
-- KEYS: entries of a bucket. ARGV: time to live (ms) of the mark, version, the mark.
local version = tonumber(ARGV[2])
for i = 1, #KEYS do
  local had = string.match(redis.call('GETRANGE', KEYS[i], 0, 20), '^(%d+):')
  if not had or tonumber(had) <= version then
    redis.call('SET', KEYS[i], ARGV[3], 'PX', ARGV[1])
  end
end
return #KEYS
