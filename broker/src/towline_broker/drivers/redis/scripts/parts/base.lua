-- What every script begins with: the keys of the partition, and commands over many fields.
local P = KEYS[1]
local floor, min, max, fmt = math.floor, math.min, math.max, string.format
local pack, unframe = struct.pack, struct.unpack

-- Lua's stack bounds how many arguments one command can have.
local PIECE = 4000

-- Whole numbers as text. Lua itself writes large ones as 1.7e+15.
local function int(number) return fmt('%d', number) end

local function hmget(key, fields)
  local count = #fields
  if count == 0 then return {} end
  if count <= PIECE then return redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for first = 1, count, PIECE do
    local last = min(first + PIECE - 1, count)
    local piece = redis.call('HMGET', key, unpack(fields, first, last))
    for i = 1, last - first + 1 do values[first + i - 1] = piece[i] end
  end
  return values
end

-- Replies and arguments of many parts are one string: each part with its length before it.
local function frame(out, part)
  local n = #out
  out[n + 1] = pack('<I4', #part)
  out[n + 2] = part
end
