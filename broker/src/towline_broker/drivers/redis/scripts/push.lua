-- 4: "1" for all or nothing; 5: the jobs; 6: the envelopes of those that are apart; 7...: limits.
-- {"ok", news, outcomes, holders of keys ...}, {"full", queue} or {"moved", queue, to}
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
