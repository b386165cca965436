-- 1: after this number; 2: most jobs. {how many were looked at, the number that the next call goes on
-- after (empty at the end), then id and what is wrong by turns}
local looked, wrong = 0, {}

local function need(there, job, what)
  if not there then
    wrong[#wrong + 1] = job.id
    wrong[#wrong + 1] = what
  end
end

local function scored(key, member) return redis.call('ZSCORE', key, member) end

local function check(job)
  local n = job.n
  need(redis.call('HGET', IDS, job.id) == n, job, 'cannot be found by its id')
  need(redis.call('HEXISTS', P .. 'q', job.queue) == 1, job, 'is in a queue that is not there')
  if job.apart then
    need(redis.call('HEXISTS', P .. 'e', n) == 1, job, 'has lost its payload')
  end
  if job.state == READY then
    need(scored(line_key(job.queue, job.priority), n), job, 'is ready and in no line')
    need(scored(P .. 'p:' .. job.queue, int(job.priority)), job, 'is in a line that nobody looks at')
  elseif job.state == SCHEDULED then
    local member = fmt('%015.0f:%s', job.place, n)
    need(scored(P .. 'due', member), job, 'is scheduled and on no agenda')
    need(scored(P .. 'due:' .. job.queue, member), job, 'is scheduled and not on that of its queue')
  elseif job.state == LEASED then
    need(scored(P .. 'run', n), job, 'is leased, and nobody waits for the end of its lease')
  elseif job.state == DEAD then
    local group = job.queue .. '|' .. job.type .. '|' .. job.reason
    need(scored(P .. 'dead:' .. group, fmt('%015.0f', n)), job, 'is dead and not in the list of them')
    need(redis.call('SISMEMBER', P .. 'dead', group) == 1, job, 'is in a list that nobody looks at')
  else
    need(scored(P .. 'keep', n), job, 'has ended, and nobody waits for the end of its retention')
    need(scored(P .. 'kept:' .. job.queue, n), job, 'has ended and is not among those of its queue')
  end
end

local last = walk(tonumber(ARGV[1]), tonumber(ARGV[2]), function(job)
  looked = looked + 1
  check(job)
  return false
end)
return {looked, last, unpack(wrong)}
