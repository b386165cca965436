-- Changes are worked out first, and written at the end in few commands: nothing is written before
-- all of a call is known, and many jobs cost little more than one.
local BROKER, CHANNEL, NOW = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- Arguments by command and key. Taking away comes first.
local ORDER = {'HDEL', 'ZREM', 'SREM', 'HSET', 'ZADD', 'SADD', 'RPUSH'}
local writes = {}
for _, command in ipairs(ORDER) do writes[command] = {} end

local function put(command, key, a, b)
  local args = writes[command][key]
  if not args then
    args = {n = 0}
    writes[command][key] = args
  end
  local n = args.n + 1
  args[n] = a
  if b ~= nil then
    n = n + 1
    args[n] = b
  end
  args.n = n
end

-- Jobs by what has to be written of them at the end.
local placing, changed = {}, {}
local told_ready, told_ended = {}, {}
-- Lines, buckets and groups of dead jobs that may be empty afterwards: key to where it is named.
local thinned = {}
local tallies, live, lined = {}, {}, {}

local function tally_of(job)
  local tally = job.tally
  if tally then return tally end
  local types = tallies[job.queue]
  if not types then
    types = {}
    tallies[job.queue] = types
  end
  tally = types[job.type]
  if not tally then
    tally = {name = job.queue .. '|' .. job.type .. '|', depth = {}, total = {}}
    types[job.type] = tally
  end
  job.tally = tally
  return tally
end

local function count(job, what)
  local total = tally_of(job).total
  total[what] = (total[what] or 0) + 1
end

local DEPTHS = {'scheduled', 'ready', 'leased', [DEAD] = 'dead'}

local function count_state(job, by)
  local name = DEPTHS[job.state]
  if name then
    local depth = tally_of(job).depth
    depth[name] = (depth[name] or 0) + by
  end
  live[job.queue] = (live[job.queue] or 0) + (job.state < SUCCEEDED and by or 0)
end

local RUN, EXPIRING, DUE_ALL = P .. 'run', P .. 'exp', P .. 'due'

local function due_member(job) return fmt('%015.0f:%s', job.place, job.n) end
local function dead_member(n) return fmt('%015.0f', n) end
local function dead_group(job) return job.queue .. '|' .. job.type .. '|' .. job.reason end

-- Takes a job out of everything that belongs to its present state.
local function leave(job)
  local state, n = job.state, job.n
  count_state(job, -1)
  if state == READY then
    local key = line_key(job.queue, job.priority)
    put('ZREM', key, n)
    if not thinned[key] then
      thinned[key] = {'ZREM', P .. 'p:' .. job.queue, int(job.priority)}
    end
    if job.carried then
      put('ZREM', P .. 'since:' .. job.queue, n)
      job.carried = nil
    end
  elseif state == SCHEDULED then
    local member = due_member(job)
    put('ZREM', DUE_ALL, member)
    put('ZREM', P .. 'due:' .. job.queue, member)
  elseif state == LEASED then
    put('ZREM', RUN, n)
    if job.request ~= '' then put('SREM', P .. 'r:' .. job.request, n) end
    job.grant, job.worker, job.request, job.till, job.length = '', '', '', 0, 0
  elseif state == DEAD then
    local group = dead_group(job)
    put('ZREM', P .. 'dead:' .. group, dead_member(n))
    thinned[P .. 'dead:' .. group] = {'SREM', P .. 'dead', group}
  else
    put('ZREM', P .. 'keep', n)
    put('ZREM', P .. 'kept:' .. job.queue, n)
  end
  if state <= READY and job.expires ~= 0 then put('ZREM', EXPIRING, n) end
end

local function change(job)
  if not job.changed then
    job.changed = true
    changed[#changed + 1] = job
  end
end

-- To READY, or to SCHEDULED if due later, behind the others.
local function wait(job, due)
  if due > NOW then
    job.state, job.available = SCHEDULED, due
  else
    job.state, job.available = READY, NOW
  end
  placing[#placing + 1] = job
  count_state(job, 1)
end

-- A job that got its place is entered where waiting jobs are looked for.
local function enter_waiting(job)
  local n = job.n
  if job.state == READY then
    local key = line_key(job.queue, job.priority)
    put('ZADD', key, job.place, n)
    if not lined[key] then
      lined[key] = true
      put('ZADD', P .. 'p:' .. job.queue, -job.priority, int(job.priority))
    end
    if job.carried then put('ZADD', P .. 'since:' .. job.queue, job.available, n) end
    told_ready[job.queue] = (told_ready[job.queue] or 0) + 1
  else
    local member = due_member(job)
    put('ZADD', DUE_ALL, job.available, member)
    put('ZADD', P .. 'due:' .. job.queue, job.available, member)
  end
  if job.expires ~= 0 and job.attempt == 0 and not job.lasting then
    put('ZADD', EXPIRING, job.expires, n)
  end
end

-- READY to LEASED.
local function lease(job, length, grant, worker, request)
  leave(job)
  job.state, job.attempt, job.started = LEASED, job.attempt + 1, NOW
  job.length, job.till = length, NOW + length
  job.grant, job.worker, job.request = grant, worker, request
  count(job, 'started')
  count_state(job, 1)
  put('ZADD', RUN, job.till, job.n)
  if request ~= '' then put('SADD', P .. 'r:' .. request, job.n) end
  change(job)
end

local function enter_dead(job)
  count_state(job, 1)
  local group = dead_group(job)
  put('ZADD', P .. 'dead:' .. group, job.finished, dead_member(job.n))
  put('SADD', P .. 'dead', group)
end

local function enter_kept(job, till)
  count_state(job, 1)
  put('ZADD', P .. 'keep', till, job.n)
  put('ZADD', P .. 'kept:' .. job.queue, till, job.n)
end

-- Takes away all that is kept of a job; it has left its state.
local function remove(job)
  local bucket = bucket_of(job.n)
  local key = bucket_key(bucket)
  put('HDEL', key, job.n)
  if not thinned[key] then thinned[key] = {'ZREM', P .. 'b', bucket} end
  put('HDEL', IDS, job.id)
  if job.row then put('HDEL', ROWS, job.n) end
  if job.apart then put('HDEL', P .. 'e', job.n) end
  job.removed = true
end

-- Draws places for those that wait, in the order in which they came to.
local function take_places()
  local wanted = #placing
  if wanted == 0 then return end
  local last = redis.call('INCRBY', P .. 'seq', wanted)
  for i, job in ipairs(placing) do
    job.place = last - wanted + i
    if not job.n then job.n = int(job.place) end
    enter_waiting(job)
  end
  placing = {}
end

local function write_counts()
  for _, types in pairs(tallies) do
    for _, tally in pairs(types) do
      for what, by in pairs(tally.depth) do
        if by ~= 0 then redis.call('HINCRBY', P .. 'd', tally.name .. what, by) end
      end
      for what, by in pairs(tally.total) do
        redis.call('HINCRBY', P .. 't', tally.name .. what, by)
      end
    end
  end
  for queue, by in pairs(live) do
    if by ~= 0 then redis.call('HINCRBY', P .. 'q', queue, by) end
  end
end

local function write_buffers()
  for _, command in ipairs(ORDER) do
    for key, args in pairs(writes[command]) do
      for first = 1, args.n, PIECE do
        local last = min(first + PIECE - 1, args.n)
        redis.call(command, key, unpack(args, first, last))
      end
    end
  end
  for key, name in pairs(thinned) do
    if redis.call('EXISTS', key) == 0 then redis.call(unpack(name)) end
  end
end

-- What all brokers are told: who did it, then "queue count" of READY jobs and ids of ended ones.
local function publish()
  local lines = {BROKER}
  for queue, number in pairs(told_ready) do lines[#lines + 1] = queue .. ' ' .. number end
  for _, id in ipairs(told_ended) do lines[#lines + 1] = id end
  if #lines == 1 then return '' end
  local news = table.concat(lines, '\n')
  redis.call('PUBLISH', CHANNEL, news)
  return news
end

-- Writes everything; returns what was published. A server that is out of memory refuses a script
-- whose first change takes memory, and lets it go on after one that takes none: so everything but
-- a push begins with such a one.
local function write(may_be_refused)
  if not may_be_refused then redis.call('DEL', P .. 'none') end
  take_places()
  for _, job in ipairs(changed) do
    if not job.removed then
      job.row = row_of(job)
      put('HSET', ROWS, job.n, job.row)
    end
  end
  write_buffers()
  write_counts()
  return publish()
end
