-- What a push comes to, worked out before anything is stored. Each job is placed as if those before
-- it were stored already.
local CREATED, EXISTING, BY_KEY, FULL = 'C', 'E', 'K', 'F'

-- "blob": the jobs as they are to be kept; "limits": queue and most live jobs, by turns.
local function plan(blob, limits)
  local jobs, ids, queues, seen, keys, keyed = {}, {}, {}, {}, {}, {}
  local at = 1
  while at <= #blob do
    local static
    static, at = unframe('<I4c0', blob, at)
    local job = parse(static, false)
    jobs[#jobs + 1], ids[#ids + 1] = job, job.id
    if not seen[job.queue] then
      seen[job.queue] = true
      queues[#queues + 1] = job.queue
    end
    if job.key then
      keys[#keys + 1] = key_field(job.queue, job.key)
      keyed[#keyed + 1] = job
    end
  end
  for i, marks in ipairs(hmget(P .. 'qs', queues)) do
    local _, moved, to = queue_marks(marks)
    if moved then return nil, {'moved', queues[i], to} end
  end
  for i, value in ipairs(hmget(P .. 'u', keys)) do keyed[i].held = value end

  local stored, remembered_ids = hmget(IDS, ids), hmget(P .. 'mem', ids)
  local most, depth = {}, {}
  for i = 1, #limits, 2 do
    most[limits[i]] = tonumber(limits[i + 1])
    depth[limits[i]] = tonumber(redis.call('HGET', P .. 'q', limits[i]) or 0)
  end

  local outcomes, holders, created, taken, full = {}, {}, {}, {}, nil
  for i, job in ipairs(jobs) do
    local holder
    if job.key then
      holder = taken[job.queue .. '|' .. job.key]
      if not holder and job.held then
        local id, till = holder_of(job.held)
        if till == 0 or till > NOW then holder = id end
      end
    end
    local limit = most[job.queue]
    if stored[i] or remembered_ids[i] or taken[job.id] then
      outcomes[i] = EXISTING
    elseif holder then
      outcomes[i] = BY_KEY
      holders[#holders + 1] = holder
    elseif limit and depth[job.queue] >= limit then
      outcomes[i] = FULL
      full = full or job.queue
    else
      outcomes[i] = CREATED
      created[#created + 1] = job
      taken[job.id] = job.id
      if limit then depth[job.queue] = depth[job.queue] + 1 end
      if job.key and (job.key_until == 0 or job.key_until > NOW) then
        taken[job.queue .. '|' .. job.key] = job.id
      end
    end
  end
  return {jobs = jobs, created = created, outcomes = outcomes, holders = holders, full = full}
end
