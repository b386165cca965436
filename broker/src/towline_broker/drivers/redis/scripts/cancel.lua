-- 4: time to remember until; 5...: ids. {news, a digit for each: CancelOutcome}
local CANCELLED_NOW, ALREADY_ENDED, NOT_FOUND = 1, 2, 3
local till = tonumber(ARGV[4])
local ids = {unpack(ARGV, 5)}
local outcomes = {}
for i, job in ipairs(find(ids)) do
  local state
  if job then
    state = job.state
  else
    local value = remembered(ids[i])
    state = value and string.byte(value)
  end
  if not state then
    outcomes[i] = NOT_FOUND
  elseif state == CANCELLED then
    outcomes[i] = CANCELLED_NOW
  elseif state >= SUCCEEDED then
    outcomes[i] = ALREADY_ENDED
  else
    count(job, 'cancelled')
    finish(job, CANCELLED, till, state == LEASED and LEASE_CANCELLED or 0)
    outcomes[i] = CANCELLED_NOW
  end
end
local news = ''
if #told_ended > 0 then news = write() end
return {news, table.concat(outcomes)}
