'use strict';
// Steps that many scenarios take.

const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { details, inSeconds } = require('../../../examples/node/towline');

const DEADLINE = 20_000; // milliseconds

/** A job for `queue`, with an id of its own. */
function job(queue, fields = {}) {
  return { id: randomUUID(), queue, type: 'Test', ...fields };
}

/** Pushes one job and returns its id. */
async function push(broker, queue, fields) {
  const pushed = job(queue, fields);
  await broker.queue.push({ jobs: [pushed] });
  return pushed.id;
}

/** Waits for one lease from `queue`. */
async function reserve(broker, queue, fields = {}) {
  const request = { queues: [{ name: queue }], wait: { seconds: 20 }, ...fields };
  const { leases } = await broker.queue.reserve(request, { timeout: 25 });
  if (leases.length !== 1) throw new Error(`expected one lease of ${queue}, got ${leases.length}`);
  return leases[0];
}

async function ack(broker, lease, result) {
  const { results } = await broker.queue.ack({ acks: [{ leaseToken: lease.leaseToken, result }] });
  return results[0].outcome;
}

async function nack(broker, lease, fields = {}) {
  const nacks = [{ leaseToken: lease.leaseToken, ...fields }];
  const { results } = await broker.queue.nack({ nacks });
  return results[0].outcome;
}

async function state(broker, id) {
  const { job: info } = await broker.queue.getJob({ id });
  return info.state;
}

/** Asks again until the answer is true; fails when it is not in time. */
async function until(condition) {
  const deadline = Date.now() + DEADLINE;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`still not so: ${condition}`);
    await sleep(10);
  }
}

/** How a call failed: its gRPC code, and its details. */
async function failure(call) {
  try {
    await call;
  } catch (error) {
    const found = details(error);
    return {
      code: error.code,
      message: error.details,
      reason: found.ErrorInfo?.reason,
      domain: found.ErrorInfo?.domain,
      fields: found.BadRequest?.fieldViolations.map(({ field }) => field),
      full: found.QuotaFailure?.violations.map(({ subject }) => subject),
      retrySeconds: found.RetryInfo && inSeconds(found.RetryInfo.retryDelay),
    };
  }
  throw new Error('the call did not fail');
}

module.exports = { ack, failure, job, nack, push, reserve, state, until };
