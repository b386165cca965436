-- What outlives a job: the settle memory, and unique keys held for a time of their own.
--   mem           hash   id of an ended job to how it ended, and by which lease
--   ml            hash   "id/grant" of another ended lease to how it ended
--   f:<second>    list   what may be forgotten in that second, and after; "f" (zset) has them all
--   u             hash   "queue|key" to the time until which it is held (0: no such) and the holder
--   ut            zset   of these, those with a time
local ENDED = '<BBi8i8I2c0I2c0'

-- What this call has added, by the fields of "mem" and "ml".
local ended, ended_leases = {}, {}
-- The list for a time at which something may be forgotten.
local slices = {}

local function remember(entry, till)
  local slice = slices[till]
  if not slice then
    local second = int(floor(till / 1000000))
    slice = P .. 'f:' .. second
    slices[till] = slice
    put('ZADD', P .. 'f', second, second)
  end
  put('RPUSH', slice, entry)
end

-- "settlement" (0: none) is that of the lease that ended with the job.
local function end_of(queue, state, finished, till, settlement, grant, result)
  return pack(ENDED, state, settlement, finished, till, #queue, queue, #grant, grant) .. result
end

local MEMORY = P .. 'mem'
local function remember_end(id, value, till)
  ended[id] = value
  put('HSET', MEMORY, id, value)
  remember('J' .. id, till)
end

local function remember_job(job, till, settlement, grant)
  local value = end_of(job.queue, job.state, job.finished, till, settlement, grant, job.result)
  remember_end(job.id, value, till)
end

local function remember_lease(job, grant, settlement, till)
  local field = job.id .. '/' .. grant
  local value = pack('<Bi8', settlement, till) .. job.queue
  ended_leases[field] = value
  put('HSET', P .. 'ml', field, value)
  remember('L' .. field, till)
end

local function remembered(id) return ended[id] or redis.call('HGET', P .. 'mem', id) end

-- How a lease ended; 0: not known.
local function settlement_of(queue, id, grant)
  local value = remembered(id)
  if value then
    local _, settlement, _, _, q, g = unframe(ENDED, value)
    if settlement ~= 0 and q == queue and g == grant then return settlement end
  end
  local field = id .. '/' .. grant
  value = ended_leases[field] or redis.call('HGET', P .. 'ml', field)
  if value then
    local settlement, _, at = unframe('<Bi8', value)
    if string.sub(value, at) == queue then return settlement end
  end
  return 0
end

local function key_field(queue, key) return queue .. '|' .. key end

-- Who holds a key until when (0: until the job has ended).
local function holder_of(value)
  local till, id = string.match(value, '^(%-?%d+)|(.*)$')
  return id, tonumber(till)
end

local function take_key(job)
  local field = key_field(job.queue, job.key)
  put('HSET', P .. 'u', field, int(job.key_until) .. '|' .. job.id)
  if job.key_until ~= 0 then
    put('ZADD', P .. 'ut', job.key_until, field)
  else
    put('ZREM', P .. 'ut', field)
  end
end

-- Frees the job's key unless another job holds it by now, or (unless "timed" are freed, too) it is
-- held for a time of its own.
local function free_key(job, timed)
  if not job.key then return end
  local field = key_field(job.queue, job.key)
  local value = redis.call('HGET', P .. 'u', field)
  if not value then return end
  local id, till = holder_of(value)
  if id == job.id and (timed or till == 0) then
    put('HDEL', P .. 'u', field)
    if till ~= 0 then put('ZREM', P .. 'ut', field) end
  end
end

-- To DEAD.
local function bury(job, reason)
  leave(job)
  job.state, job.reason, job.finished = DEAD, reason, NOW
  enter_dead(job)
  count(job, 'dead_lettered')
  free_key(job, false)
  told_ended[#told_ended + 1] = job.id
  change(job)
end

-- To SUCCEEDED or CANCELLED. The job goes at once if it has no retention.
local function finish(job, state, till, settlement)
  local grant = job.grant
  leave(job)
  job.state, job.finished = state, NOW
  if job.retention > 0 then
    enter_kept(job, NOW + job.retention)
    change(job)
  else
    remove(job)
  end
  remember_job(job, till, settlement, grant)
  free_key(job, state == CANCELLED)
  told_ended[#told_ended + 1] = job.id
end
