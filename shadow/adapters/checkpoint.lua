-- Change a slot if it still has the version that the caller expects.
--
-- KEYS  1 state (hash), 2 tiles (hash), both in one hash slot
-- ARGV  1 expected version, empty where the slot must not exist
--       2 new version
--       3..6 numbers of: state fields to set, state fields to delete, tiles to set, tiles to delete
--       then name and value of each field to set, names to delete, name and value of each tile to set,
--       names to delete
-- Returns {"applied" or "refused", version that is stored now, empty where there is none}.
--
-- Redis does not take back what a failed script has written, so everything is checked before the first write,
-- and the first write is one that Redis refuses where memory is full.

local VERSION = '@version'
local CHUNK = 1000

local expected, new = ARGV[1], ARGV[2]
local counts, wanted = {}, 6
for i = 1, 4 do
  counts[i] = tonumber(ARGV[2 + i])
  if not counts[i] or counts[i] < 0 then
    return redis.error_reply('SHADOW count ' .. i .. ' is not a number')
  end
  wanted = wanted + counts[i] * ((i == 1 or i == 3) and 2 or 1)
end
if #ARGV ~= wanted then
  return redis.error_reply('SHADOW got ' .. #ARGV .. ' arguments instead of ' .. wanted)
end
if new == '' or new == expected then
  return redis.error_reply('SHADOW the new version is empty or the expected one')
end
for i = 1, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'hash' and kind ~= 'none' then
    return redis.error_reply('SHADOW ' .. KEYS[i] .. ' is a ' .. kind .. ', not a hash')
  end
end
local stored = redis.call('HGET', KEYS[1], VERSION) or ''
if stored == new then
  return {'applied', stored}
end
if stored ~= expected then
  return {'refused', stored}
end

local at = 7
-- Runs a command over the next arguments, in chunks, since Lua's stack is bounded.
local function each(command, key, arguments)
  local last = at + arguments - 1
  while at <= last do
    local to = math.min(at + CHUNK - 1, last)
    redis.call(command, key, unpack(ARGV, at, to))
    at = to + 1
  end
end

redis.call('HSET', KEYS[1], VERSION, new)
each('HSET', KEYS[1], counts[1] * 2)
each('HDEL', KEYS[1], counts[2])
each('HSET', KEYS[2], counts[3] * 2)
each('HDEL', KEYS[2], counts[4])
return {'applied', new}
