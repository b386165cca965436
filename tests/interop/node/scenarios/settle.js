'use strict';
// Ending leases: Ack, and each kind of Nack.

const { connect } = require('../../../../examples/node/towline');
const { ack, nack, push, reserve, state, until } = require('../steps');

const failure = { type: 'IOError', message: 'disk on fire', trace: 'at line 1' };

exports.resultForAnotherClient = async (broker, queue, address) => {
  const id = await push(broker, queue);
  const producer = connect(address);
  let ended = false;
  const result = producer.queue
    .getJob({ id, wait: { seconds: 20 } }, { timeout: 25 })
    .finally(() => (ended = true));
  const lease = await reserve(broker, queue);
  const endedBefore = ended;
  const outcome = await ack(broker, lease, Buffer.from('{"pages":12}'));
  const { job } = await result;
  producer.close();
  return { endedBefore, outcome, state: job.state, result: job.result.toString() };
};

exports.repeatedAck = async (broker, queue) => {
  await push(broker, queue);
  const lease = await reserve(broker, queue);
  const outcomes = [await ack(broker, lease), await ack(broker, lease)];
  return { outcomes, nackAfterwards: await nack(broker, lease) };
};

exports.oneBadItem = async (broker, queue) => {
  await push(broker, queue);
  const lease = await reserve(broker, queue);
  const { results } = await broker.queue.ack({
    acks: [{ leaseToken: 'no such token' }, { leaseToken: lease.leaseToken }],
  });
  return results.map(({ outcome }) => outcome);
};

exports.retryByPolicy = async (broker, queue) => {
  const id = await push(broker, queue, {
    retry: { maxAttempts: 2, delays: { delays: [{ seconds: 1 }] }, jitter: 0 },
  });
  const first = await reserve(broker, queue);
  const failedAt = Date.now();
  await nack(broker, first, { failure });
  const between = await state(broker, id);
  const second = await reserve(broker, queue);
  const milliseconds = Date.now() - failedAt;
  await nack(broker, second, { failure });
  const { job } = await broker.queue.getJob({ id });
  return {
    between,
    milliseconds,
    attempts: [first.attempt, second.attempt],
    firstFailure: first.lastFailure,
    lastFailure: { type: second.lastFailure.type, message: second.lastFailure.message },
    end: { state: job.state, reason: job.deadReason, trace: job.lastFailure.trace },
  };
};

exports.retryAfter = async (broker, queue) => {
  const id = await push(broker, queue);
  await nack(broker, await reserve(broker, queue), { failure, retryAfter: { seconds: 3600 } });
  const { job } = await broker.queue.getJob({ id });
  const wait = job.availableAt.seconds - Date.now() / 1000;
  const sooner = await push(broker, queue);
  await nack(broker, await reserve(broker, queue), { retryAfter: {} });
  const again = await reserve(broker, queue);
  return {
    state: job.state,
    waitSeconds: wait,
    atOnce: again.job.id === sooner,
    attempt: again.attempt,
  };
};

exports.release = async (broker, queue) => {
  const id = await push(broker, queue, { retry: { maxAttempts: 1 } });
  const first = await reserve(broker, queue);
  const outcome = await nack(broker, first, { failure, release: {} });
  const second = await reserve(broker, queue);
  const { job } = await broker.queue.getJob({ id });
  await nack(broker, second, { release: { delay: { seconds: 3600 } } });
  return {
    outcome,
    attempts: [first.attempt, second.attempt],
    releases: job.releases,
    why: job.lastFailure.message,
    delayed: await state(broker, id),
  };
};

exports.deadLetter = async (broker, queue) => {
  const id = await push(broker, queue, { retry: { maxAttempts: 9 } });
  const lease = await reserve(broker, queue);
  const outcome = await nack(broker, lease, { failure, deadLetter: true });
  const { job } = await broker.queue.getJob({ id });
  return { outcome, state: job.state, reason: job.deadReason, ackTooLate: await ack(broker, lease) };
};

exports.leaseRunsOut = async (broker, queue) => {
  const id = await push(broker, queue, { retry: { maxAttempts: 1 } });
  const lease = await reserve(broker, queue, { lease: { seconds: 1 } });
  await until(async () => (await state(broker, id)) === 'JOB_STATE_DEAD');
  const { job } = await broker.queue.getJob({ id });
  return { reason: job.deadReason, ackTooLate: await ack(broker, lease) };
};
