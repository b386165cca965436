-- 4: most records. How many went.
local most = tonumber(ARGV[4])
local gone = 0

local function forget_kept()
  local numbers = redis.call('ZRANGEBYSCORE', P .. 'keep', '-inf', NOW, 'LIMIT', 0, most)
  for _, job in ipairs(load(numbers)) do
    leave(job)
    remove(job)
  end
  gone = gone + #numbers
end

-- When a record may go.
local function time_of(kind, value)
  if kind == 'J' then
    local _, _, _, till = unframe('<BBi8i8', value)
    return till
  end
  local _, till = unframe('<Bi8', value)
  return till
end

local function values_of(entries)
  local fields, at, values = {J = {}, L = {}}, {J = {}, L = {}}, {}
  for i, entry in ipairs(entries) do
    local kind = string.sub(entry, 1, 1)
    table.insert(fields[kind], string.sub(entry, 2))
    table.insert(at[kind], i)
  end
  for kind, key in pairs({J = 'mem', L = 'ml'}) do
    for k, value in ipairs(hmget(P .. key, fields[kind])) do values[at[kind][k]] = value end
  end
  return values
end

-- Forgets from the front of one second's list; whether it got to the end of it. In the second that
-- is passing, entries stand in the order of their times as far as their makers' clocks agree.
local function forget_slice(slice, passing)
  local key = P .. 'f:' .. slice
  local wanted = most - gone
  local entries = redis.call('LRANGE', key, 0, wanted - 1)
  local values, passed = values_of(entries), 0
  for i, entry in ipairs(entries) do
    local kind, value = string.sub(entry, 1, 1), values[i]
    local over = value and time_of(kind, value) <= NOW
    if value and not over and passing then break end
    if over then put('HDEL', P .. (kind == 'J' and 'mem' or 'ml'), string.sub(entry, 2)) end
    passed = passed + 1
  end
  gone = gone + passed
  if passed > 0 then redis.call('LTRIM', key, passed, -1) end
  local ended = passed == #entries and #entries < wanted
  if ended then put('ZREM', P .. 'f', slice) end
  return ended
end

local function forget_memory()
  local second = int(floor(NOW / 1000000))
  for _, slice in ipairs(redis.call('ZRANGEBYSCORE', P .. 'f', '-inf', second, 'LIMIT', 0, most)) do
    if gone >= most or not forget_slice(slice, slice == second) then return end
  end
end

local function forget_keys()
  local fields = redis.call('ZRANGEBYSCORE', P .. 'ut', '-inf', NOW, 'LIMIT', 0, most - gone)
  for i, value in ipairs(hmget(P .. 'u', fields)) do
    local _, till = holder_of(value or '0|')
    put('ZREM', P .. 'ut', fields[i])
    if till ~= 0 and till <= NOW then put('HDEL', P .. 'u', fields[i]) end
  end
  gone = gone + #fields
end

forget_kept()
if gone < most then forget_memory() end
if gone < most then forget_keys() end
if gone > 0 then write() end
return gone
