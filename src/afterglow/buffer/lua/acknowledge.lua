#!lua flags=allow-oom
-- Parts of sealed traces of one bucket are safe elsewhere; a trace whose parts all are is settled:
-- what went out leaves the list, what is left goes back to its head, and the seal is lifted.
-- KEYS: queue, owners, counts, books, then list, roots and more roots of each trace.
-- ARGV: TTL (s), TTL of roots (ms); then for each trace
--   name, token, reason of a drop or '', parts in all, how far to go (below),
--   number of parts, and of each: index, spans, record of what went out;
--   with MARK_ONLY and FINISH no more, else: entries to take away, duplicates, expired,
--   next look (us) or '', record of chunks that are removed or '', number of entries to put back,
--   entries (last first).
-- How far to go: 0 MARK_ONLY, 1 SETTLE, 2 PREPARE (remember the settlement, for payloads are to be
-- removed first), 3 FINISH (a settlement that is remembered).
-- Returns for each trace {outcome, parts that were ours}; outcomes: -1 not ours, 0 more parts to
-- come, 1 settled, 2 prepared, 3 all parts are acknowledged but it was MARK_ONLY.
local queue, owners, counts, books = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl, roots_ttl = ARGV[1], ARGV[2]
local MORE_BYTES = 131072
local booked, scores, unqueued, unsealed, uncounted, emptied = {}, {}, {}, {}, {}, {}

local function book(field, n)
  if n ~= 0 then
    booked[field] = (booked[field] or 0) + n
  end
end

local function remember(roots, more, record)
  local size = redis.call('STRLEN', roots)
  if size == 0 then
    redis.call('SET', roots, '0' .. record, 'PX', roots_ttl)
  elseif size + #record <= MORE_BYTES then
    redis.call('APPEND', roots, record)
    redis.call('PEXPIRE', roots, roots_ttl)
  else
    redis.call('SETRANGE', roots, 0, '1')
    redis.call('RPUSH', more, record)
    redis.call('PEXPIRE', roots, roots_ttl)
    redis.call('PEXPIRE', more, roots_ttl)
  end
end

local function settle(name, members, project, seal, settlement)
  local taken, duplicates, expired, next_look, _, back = unpack(settlement)
  local length = redis.call('LLEN', members)
  if taken >= length then
    emptied[#emptied + 1] = members
  elseif taken > 0 then
    redis.call('LTRIM', members, taken, -1)
  end
  local n_left = math.max(length - taken, 0) + #back
  if #back > 0 then
    if taken >= length then
      redis.call('DEL', members)
      emptied[#emptied] = nil
    end
    for first = 1, #back, 1000 do
      redis.call('LPUSH', members, unpack(back, first, math.min(first + 999, #back)))
    end
  end
  book('h:' .. project, -(duplicates + expired))
  book('x:duplicate:' .. project, duplicates)
  book('x:expired:' .. project, expired)
  unsealed[#unsealed + 1] = name
  if n_left == 0 then
    unqueued[#unqueued + 1] = name
    return true
  end
  if taken > 0 then
    redis.call('EXPIRE', members, ttl)
  end
  local score = next_look ~= '' and next_look or nil
  if length > seal[4] and seal[9] then
    score = '0'
  elseif length > seal[4] or not score then
    local present = redis.call('ZSCORE', queue, name)
    if present and (not score or tonumber(present) < tonumber(score)) then
      score = present
    end
  end
  scores[#scores + 1], scores[#scores + 2] = score or '0', name
  if duplicates + expired > 0 then
    redis.call('HINCRBY', counts, name, -(duplicates + expired))
  end
  return false
end

local names = {}
local at = 3
local begins = {}
for i = 1, (#KEYS - 4) / 3 do
  begins[i], names[i] = at, ARGV[at]
  local how = ARGV[at + 4]
  at = at + 6 + 3 * tonumber(ARGV[at + 5])
  if how == '1' or how == '2' then
    at = at + 6 + tonumber(ARGV[at + 5])
  end
end
local owned = redis.call('HMGET', owners, unpack(names))
local reply = {}
for i, name in ipairs(names) do
  at = begins[i]
  local members, roots, more = KEYS[2 + 3 * i], KEYS[3 + 3 * i], KEYS[4 + 3 * i]
  local token, reason, total, how = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
  local n_parts = tonumber(ARGV[at + 5])
  local project = string.match(name, '^(.*):')
  local seal = owned[i] and cmsgpack.unpack(owned[i])
  local ours = 0
  at = at + 6
  if not seal or seal[2] ~= token then
    reply[i] = {-1, 0}
  else
    local went = 0
    for part = 0, n_parts - 1 do
      local index = ',' .. ARGV[at + 3 * part] .. ','
      if not string.find(seal[7], index, 1, true) then
        seal[7] = (seal[7] == '' and ',' or seal[7]) .. string.sub(index, 2)
        went = went + tonumber(ARGV[at + 3 * part + 1])
        if ARGV[at + 3 * part + 2] ~= '' then
          remember(roots, more, ARGV[at + 3 * part + 2])
        end
      end
      ours = ours + 1
    end
    at = at + 3 * n_parts
    if went > 0 then
      book('h:' .. project, -went)
      book(reason == '' and 'd' or 'x:' .. reason .. ':' .. project, went)
    end
    local _, commas = string.gsub(seal[7], ',', '')
    local outcome = 0
    local settlement = seal[8] ~= '' and seal[8] or nil
    if how == '1' or how == '2' then
      local k = tonumber(ARGV[at + 5])
      if not settlement then
        local back = {}
        for j = 1, k do
          back[j] = ARGV[at + 5 + j]
        end
        settlement = {
          tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3],
          ARGV[at + 4], back
        }
      end
    end
    if math.max(commas - 1, 0) >= total then
      outcome = 3
      if settlement and how ~= '0' then
        if how ~= '3' and settlement[5] ~= '' and seal[8] == '' then
          remember(roots, more, settlement[5])
        end
        if how == '2' then
          seal[8] = settlement
        end
        outcome = how == '2' and 2 or 1
      end
    end
    local gone = false
    if outcome == 1 then
      gone = settle(name, members, project, seal, settlement)
    elseif n_parts > 0 or outcome == 2 then
      redis.call('HSET', owners, name, cmsgpack.pack(seal))
    end
    if gone then
      uncounted[#uncounted + 1] = name
    elseif went > 0 then
      redis.call('HINCRBY', counts, name, -went)
    end
    reply[i] = {outcome, ours}
  end
end
for field, n in pairs(booked) do
  if n ~= 0 then
    redis.call('HINCRBY', books, field, n)
  end
end
if #emptied > 0 then
  redis.call('UNLINK', unpack(emptied))
end
if #unsealed > 0 then
  redis.call('HDEL', owners, unpack(unsealed))
end
if #unqueued > 0 then
  redis.call('ZREM', queue, unpack(unqueued))
end
if #uncounted > 0 then
  redis.call('HDEL', counts, unpack(uncounted))
end
if #scores > 0 then
  redis.call('ZADD', queue, unpack(scores))
end
return reply
