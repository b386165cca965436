-- 1: after this number; 2: most jobs told; 3: queue; 4: type; 5: states, as digits (each empty:
-- any). {jobs, the number that the next call goes on after, empty at the end}
local after, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local queue, kind, states = ARGV[3], ARGV[4], ARGV[5]
-- Most jobs looked at.
local LOOK = 2000

local function matches(job)
  return (queue == '' or job.queue == queue) and (kind == '' or job.type == kind)
    and (states == '' or string.find(states, job.state, 1, true))
end

local out, told, size = {}, 0, 0
local last = walk(after, LOOK, function(job)
  if matches(job) then
    tell_job(out, job)
    told, size = told + 1, size + job.size
  end
  return told >= most or size >= MOST_TOLD
end)
return {table.concat(out), last}
