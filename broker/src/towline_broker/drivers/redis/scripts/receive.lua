-- 4: of each job: as pushed, its envelope if apart (else empty), its row, "1" if it holds its key,
-- the end of its retention. {news, how many were stored}
local jobs, ids, at = {}, {}, 1
while at <= #ARGV[4] do
  local static, envelope, row, holds, keep
  static, envelope, row, holds, keep, at = unframe('<I4c0I4c0I4c0I4c0I4c0', ARGV[4], at)
  local job = parse(static, false)
  read_row(job, row)
  job.row = false
  job.envelope, job.holds, job.keep = envelope, holds == '1', tonumber(keep)
  jobs[#jobs + 1], ids[#ids + 1] = job, job.id
end

local stored, remembered_ids, seen = hmget(IDS, ids), hmget(P .. 'mem', ids), {}
local incoming = {}
for i, job in ipairs(jobs) do
  if not (stored[i] or remembered_ids[i] or seen[job.id]) then
    seen[job.id] = true
    incoming[#incoming + 1] = job
  end
end
if #incoming == 0 then return {'', 0} end

local function take_free_key(job, taken)
  local field = key_field(job.queue, job.key)
  local value = redis.call('HGET', P .. 'u', field)
  if taken[field] or (job.key_until ~= 0 and job.key_until <= NOW) then return end
  if value then
    local _, till = holder_of(value)
    if till == 0 or till > NOW then return end
  end
  taken[field] = true
  take_key(job)
end

-- The first change: a server without memory refuses it, and with it all.
local last = redis.call('INCRBY', P .. 'seq', #incoming)
local buckets, queues, taken = {}, {}, {}
for i, job in ipairs(incoming) do
  job.place = last - #incoming + i
  job.n = int(job.place)
  local bucket = bucket_of(job.n)
  put('HSET', bucket_key(bucket), job.n, job.static)
  put('HSET', IDS, job.id, job.n)
  if not buckets[bucket] then
    buckets[bucket] = true
    put('ZADD', P .. 'b', bucket, bucket)
  end
  if job.apart then put('HSET', P .. 'e', job.n, job.envelope) end
  if job.key and job.holds then take_free_key(job, taken) end
  job.carried = job.state == READY or nil
  queues[job.queue .. '|' .. job.type] = job.queue
  if job.state <= READY then
    count_state(job, 1)
    enter_waiting(job)
  elseif job.state == DEAD then
    enter_dead(job)
  else
    enter_kept(job, job.keep)
  end
  change(job)
end
local news = write(true)
-- Queue and type are known from now on, though nothing of them may be live.
for name, queue in pairs(queues) do
  redis.call('HINCRBY', P .. 'q', queue, 0)
  redis.call('HINCRBY', P .. 'd', name .. '|ready', 0)
end
return {news, #incoming}
