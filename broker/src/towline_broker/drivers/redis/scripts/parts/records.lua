-- A job as it is kept, under a number drawn from "seq":
--   ids           hash   id to number
--   j:<number / 1000>
--                 hash   number to the job as pushed (its head, then the envelope), never changed
--   b             zset   which of those hashes there are
--   e             hash   number to the envelope, if it is large ("apart")
--   m             hash   number to the row: what has become of the job. A job that is as it was
--                        pushed has none.
local SCHEDULED, READY, LEASED, SUCCEEDED, DEAD, CANCELLED = 1, 2, 3, 4, 5, 6
local ACKED, RETRIED, RELEASED, DEAD_LETTERED, LOST = 1, 2, 3, 4, 5
local LEASE_CANCELLED = 6
local EXPIRED = 3
local BUCKET = 1000
local IDS, ROWS = P .. 'ids', P .. 'm'

-- The head. Which optional parts there are, say the flags.
local HEAD = '<BI8i4I2c0I2c0I2c0'
local ORDERED, DUE, EXPIRES, RETAINED, KEYED, TIMED, RETRYING, APART = 1, 2, 4, 8, 16, 32, 64, 128

-- The row. The second byte: the reason of the death, and these flags.
local ROW = '<BBi4i4i8i8i8i8i8i8I2c0I2c0I2c0I4c0I4c0I4c0'
local LASTING, CARRIED = 16, 32

-- The optional parts of a head; where the envelope begins.
local function parse_options(job, flags, static, at)
  if flags % 2 >= ORDERED then at = at + 8 end
  if flags % 4 >= DUE then job.due, at = unframe('<i8', static, at) end
  if flags % 8 >= EXPIRES then job.expires, at = unframe('<i8', static, at) end
  if flags % 16 >= RETAINED then job.retention, at = unframe('<i8', static, at) end
  if flags % 32 >= KEYED then job.key, at = unframe('<I2c0', static, at) end
  if flags % 64 >= TIMED then job.key_until, at = unframe('<i8', static, at) end
  if flags % 128 >= RETRYING then
    local retry
    retry, at = unframe('<I2c0', static, at)
  end
  if flags >= APART then
    job.apart = true
    job.size, at = unframe('<I4', static, at)
  end
  return at
end

-- A job as it was pushed. All that a job can have is named at once: tables that grow are slow.
local function parse(static, n)
  local flags, enqueued, priority, queue, kind, id, at = unframe(HEAD, static)
  local job = {
    static = static, n = n, id = id, queue = queue, type = kind, priority = priority, due = 0,
    expires = 0, retention = 0, key_until = 0, size = 0, row = false, state = READY, attempt = 0,
    releases = 0, available = enqueued, started = 0, finished = 0, till = 0, length = 0, place = 0,
    grant = '', worker = '', request = '', failure = '', progress = '', result = '', reason = 0,
    tally = false, changed = false, removed = false,
  }
  if flags ~= 0 then at = parse_options(job, flags, static, at) end
  if not job.apart then job.size = #static - at + 1 end
  if job.due ~= 0 then job.state, job.available = SCHEDULED, job.due end
  return job
end

-- What has become of it.
local function read_row(job, row)
  job.row = row
  local marks
  job.state, marks, job.attempt, job.releases, job.available, job.started, job.finished, job.till,
    job.length, job.place, job.grant, job.worker, job.request, job.failure, job.progress,
    job.result = unframe(ROW, row)
  if marks >= CARRIED then job.carried, marks = true, marks - CARRIED end
  if marks >= LASTING then job.lasting, marks = true, marks - LASTING end
  job.reason = marks
end

local function row_of(job)
  local marks = job.reason + (job.lasting and LASTING or 0) + (job.carried and CARRIED or 0)
  return pack(ROW, job.state, marks, job.attempt, job.releases, job.available, job.started,
    job.finished, job.till, job.length, job.place, #job.grant, job.grant, #job.worker, job.worker,
    #job.request, job.request, #job.failure, job.failure, #job.progress, job.progress,
    #job.result, job.result)
end

local function bucket_of(number) return floor(number / BUCKET) end

local bucket_keys = {}
local function bucket_key(bucket)
  local key = bucket_keys[bucket]
  if not key then
    key = P .. 'j:' .. bucket
    bucket_keys[bucket] = key
  end
  return key
end

-- The jobs of these numbers as they are kept: as pushed, and their rows; false for what is not
-- there.
local function raw(numbers)
  local found = {}
  if #numbers == 0 then return found, found end
  local rows = hmget(ROWS, numbers)
  local one = bucket_of(numbers[1])
  for _, n in ipairs(numbers) do
    if bucket_of(n) ~= one then
      one = false
      break
    end
  end
  if one then return hmget(bucket_key(one), numbers), rows end
  local wanted, order = {}, {}
  for i, n in ipairs(numbers) do
    local bucket = bucket_of(n)
    local group = wanted[bucket]
    if not group then
      group = {fields = {}, at = {}}
      wanted[bucket] = group
      order[#order + 1] = bucket
    end
    group.fields[#group.fields + 1] = n
    group.at[#group.at + 1] = i
  end
  for _, bucket in ipairs(order) do
    local group = wanted[bucket]
    local statics = hmget(bucket_key(bucket), group.fields)
    for k, i in ipairs(group.at) do found[i] = statics[k] end
  end
  return found, rows
end

local function whole(static, row, n)
  local job = parse(static, n)
  job.place = tonumber(n)
  if row then read_row(job, row) end
  return job
end

-- The jobs of these numbers; false for one that is not there.
local function load(numbers)
  local statics, rows = raw(numbers)
  local jobs = {}
  for i, n in ipairs(numbers) do
    jobs[i] = statics[i] and whole(statics[i], rows[i], n) or false
  end
  return jobs
end

-- The stored jobs of these ids; the same table for the same id, false for one that is not there.
local function find(ids)
  local numbers, at, jobs, by_id = {}, {}, {}, {}
  local stored = hmget(IDS, ids)
  for i, id in ipairs(ids) do
    jobs[i] = false
    if stored[i] then
      at[#at + 1] = i
      numbers[#numbers + 1] = stored[i]
    end
  end
  local loaded = load(numbers)
  for k, i in ipairs(at) do
    local id = ids[i]
    by_id[id] = by_id[id] or loaded[k]
    jobs[i] = by_id[id]
  end
  return jobs
end

local TOLD = '<I4c0I4c0I4c0'
-- A list of jobs ends early, once their envelopes come to so many bytes.
local MOST_TOLD = 64 * 1024 * 1024

-- What a broker is told of a job: its number, as pushed, the row (empty: there is none).
local function tell_job(out, job)
  local static, row = job.static, job.row or ''
  if job.apart then static = static .. (redis.call('HGET', P .. 'e', job.n) or '') end
  out[#out + 1] = pack(TOLD, #job.n, job.n, #static, static, #row, row)
end

-- The same without the envelope.
local function tell_lease(out, job)
  local static, row = job.static, job.row or ''
  if not job.apart then static = string.sub(static, 1, #static - job.size) end
  out[#out + 1] = pack(TOLD, #job.n, job.n, #static, static, #row, row)
end

local line_keys = {}
local function line_key(queue, priority)
  local keys = line_keys[queue]
  if not keys then
    keys = {}
    line_keys[queue] = keys
  end
  local key = keys[priority]
  if not key then
    key = P .. 'l:' .. queue .. ':' .. int(priority)
    keys[priority] = key
  end
  return key
end

-- The priorities of a queue that have READY jobs, highest first.
local function priorities_of(queue) return redis.call('ZRANGE', P .. 'p:' .. queue, 0, -1) end

local function ready_count(queue)
  local count = 0
  for _, priority in ipairs(priorities_of(queue)) do
    count = count + redis.call('ZCARD', line_key(queue, tonumber(priority)))
  end
  return count
end

-- What is said of a queue that is paused or on its way to another store.
local function queue_marks(text)
  if not text then return false, false, '' end
  return string.sub(text, 1, 1) == '1', string.sub(text, 2, 2) == '1', string.sub(text, 3)
end
