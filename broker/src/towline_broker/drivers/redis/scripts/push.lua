-- 4: "1" for all or nothing; 5: the jobs; 6: the envelopes of those that are apart; 7...: limits.
-- {"ok", news, outcomes, holders of keys ...}, {"full", queue} or {"moved", queue, to}

-- Stores the jobs if all of them are plain and new, and fit into their queues; else changes nothing.
local function push_plain()
  local blob, ids, queues, pushed = ARGV[5], {}, {}, {}
  local jobs, queue_of, priority_of, kind_of = {}, {}, {}, {}
  local at, number = 1, 0
  while at <= #blob do
    local static
    static, at = unframe('<I4c0', blob, at)
    local flags, _, priority, queue, kind, id = unframe(HEAD, static)
    if not is_plain(flags) then return end
    number = number + 1
    jobs[number], ids[number] = static, id
    queue_of[number], priority_of[number], kind_of[number] = queue, priority, kind
    if not pushed[queue] then queues[#queues + 1] = queue end
    pushed[queue] = (pushed[queue] or 0) + 1
  end
  for _, marks in ipairs(hmget(P .. 'qs', queues)) do
    if marks then return end
  end
  for i = 7, #ARGV, 2 do
    local depth = tonumber(redis.call('HGET', P .. 'q', ARGV[i]) or 0)
    if depth + (pushed[ARGV[i]] or 0) > tonumber(ARGV[i + 1]) then return end
  end
  local stored, remembered_ids, seen = hmget(IDS, ids), hmget(P .. 'mem', ids), {}
  for i, id in ipairs(ids) do
    if stored[i] or remembered_ids[i] or seen[id] then return end
    seen[id] = true
  end

  -- The first change: a server without memory refuses it, and with it all.
  local last = redis.call('INCRBY', P .. 'seq', number)
  local numbers = buffer('HSET', IDS)
  local bucket, statics = false, false
  for i, static in ipairs(jobs) do
    local place = last - number + i
    local n = int(place)
    if bucket_of(place) ~= bucket then
      bucket = bucket_of(place)
      statics = buffer('HSET', bucket_key(bucket))
      put('ZADD', P .. 'b', bucket, bucket)
    end
    local queue, priority = queue_of[i], priority_of[i]
    local key = line_key(queue, priority)
    if not lined[key] then
      lined[key] = buffer('ZADD', key)
      put('ZADD', P .. 'p:' .. queue, -priority, int(priority))
    end
    local line, k = lined[key], 2 * i
    numbers[k - 1], numbers[k] = ids[i], n
    local s, l = statics.n, line.n
    statics[s + 1], statics[s + 2], statics.n = n, static, s + 2
    line[l + 1], line[l + 2], line.n = n, n, l + 2
    add_to_tally(queue, kind_of[i])
  end
  numbers.n = 2 * number
  count_plain(nil, 'ready', 'pushed')
  for queue, by in pairs(pushed) do told_ready[queue] = by end
  return {'ok', write(true), string.rep(CREATED, number)}
end

local pushed = push_plain()
if pushed then return pushed end

local planned, refusal = plan(ARGV[5], {unpack(ARGV, 7)})
if refusal then return refusal end
if planned.full and ARGV[4] == '1' then return {'full', planned.full} end

local function store(job, buckets)
  local bucket = bucket_of(job.n)
  put('HSET', bucket_key(bucket), job.n, job.static)
  put('HSET', IDS, job.id, job.n)
  if not buckets[bucket] then
    buckets[bucket] = true
    put('ZADD', P .. 'b', bucket, bucket)
  end
  if job.key then take_key(job) end
end

for _, job in ipairs(planned.created) do
  job.attempt = 0
  count(job, 'pushed')
  wait(job, job.due)
end
-- The first change: a server without memory refuses it, and with it all.
take_places()
local buckets, at = {}, 1
for _, job in ipairs(planned.created) do store(job, buckets) end
for _, job in ipairs(planned.jobs) do
  if job.apart then
    local envelope
    envelope, at = unframe('<I4c0', ARGV[6], at)
    if job.n then put('HSET', P .. 'e', job.n, envelope) end
  end
end
return {'ok', write(true), table.concat(planned.outcomes), unpack(planned.holders)}
