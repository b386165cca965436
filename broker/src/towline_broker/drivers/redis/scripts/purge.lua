-- 4: queue; 5: most jobs; 6: time to remember until.
-- {news, how many were waiting, how many went}, or nothing if there is no queue.
local queue, till = ARGV[4], tonumber(ARGV[6])
if redis.call('HEXISTS', P .. 'q', queue) == 0 then return false end
local matched = waiting_count(queue)
local jobs = load(waiting_in(queue, tonumber(ARGV[5])))
for _, job in ipairs(jobs) do
  count(job, 'cancelled')
  leave(job)
  remove(job)
  job.state, job.finished, job.result = CANCELLED, NOW, ''
  remember_job(job, till, 0, '')
  free_key(job, true)
  told_ended[#told_ended + 1] = job.id
end
if #jobs == 0 then return {'', matched, 0} end
return {write(), matched, #jobs}
