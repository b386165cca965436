-- By ids: 1: "ids"; 2...: the ids. By filter: 1: "filter"; 2-6: queue, type, reason, since, before;
-- 7: most jobs. {how many match, a line "time of death, number, id" for each, earliest first, "1" if
-- there may be more}
local jobs, matched, more
if ARGV[1] == 'ids' then
  jobs = dead_among({unpack(ARGV, 2)})
  matched = #jobs
else
  local groups = groups_of(ARGV[2], ARGV[3], ARGV[4])
  matched = count_dead(groups, ARGV[5], ARGV[6])
  jobs = {}
  if ARGV[7] ~= '0' then
    local numbers
    numbers, more = select_dead(groups, tonumber(ARGV[7]), ARGV[5], ARGV[6], '', '')
    jobs = load(numbers)
  end
end
local lines = {}
for i, job in ipairs(jobs) do lines[i] = int(job.finished) .. ' ' .. job.n .. ' ' .. job.id end
return {matched, table.concat(lines, '\n'), more and '1' or '0'}
