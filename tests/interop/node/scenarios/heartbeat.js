'use strict';
// Prolonging leases, progress, and what a worker hears.

const { randomUUID } = require('node:crypto');
const { ack, nack, push, reserve } = require('../steps');

exports.extend = async (broker, queue) => {
  const id = await push(broker, queue);
  const lease = await reserve(broker, queue, { lease: { seconds: 20 } });
  const { results } = await broker.queue.heartbeat({
    leases: [
      { leaseToken: lease.leaseToken, extend: { seconds: 600 } },
      { leaseToken: 'no such token' },
    ],
  });
  const { job } = await broker.queue.getJob({ id });
  return {
    outcomes: results.map(({ outcome }) => outcome),
    before: lease.leaseRemaining.seconds,
    answered: results[0].leaseRemaining.seconds,
    seen: job.leaseRemaining.seconds,
    acked: await ack(broker, lease),
  };
};

exports.progress = async (broker, queue) => {
  const id = await push(broker, queue);
  const lease = await reserve(broker, queue);
  const report = async (progress) =>
    broker.queue.heartbeat({ leases: [{ leaseToken: lease.leaseToken, progress }] });
  await report({ fraction: 0.25, message: 'a quarter', checkpoint: Buffer.from('row 250') });
  await report({ fraction: 0.5, message: 'half' });
  const { job } = await broker.queue.getJob({ id });
  await nack(broker, lease, { retryAfter: {} });
  const next = await reserve(broker, queue);
  return {
    seen: { fraction: job.progress.fraction, message: job.progress.message },
    handedOn: {
      fraction: next.lastProgress.fraction,
      checkpoint: next.lastProgress.checkpoint.toString(),
    },
  };
};

exports.directives = async (broker) => {
  const workerId = `worker-${randomUUID()}`;
  const hear = async () => (await broker.queue.heartbeat({ workerId })).directive;
  const heard = [await hear()];
  await broker.admin.stopWorker({ workerId, directive: 'WORKER_DIRECTIVE_QUIET' });
  heard.push(await hear());
  await broker.admin.stopWorker({ workerId, directive: 'WORKER_DIRECTIVE_NONE' });
  heard.push(await hear());
  await broker.admin.stopWorker({ workerId });
  heard.push(await hear());
  const { directive: anonymous } = await broker.queue.heartbeat({});
  return { heard, anonymous };
};

exports.cancelled = async (broker, queue) => {
  const id = await push(broker, queue);
  const lease = await reserve(broker, queue);
  const { results: cancelled } = await broker.queue.cancelJob({ ids: [id, randomUUID()] });
  const { results } = await broker.queue.heartbeat({ leases: [{ leaseToken: lease.leaseToken }] });
  return {
    cancelled: cancelled.map(({ outcome }) => outcome),
    heard: results[0].outcome,
    ackTooLate: await ack(broker, lease),
  };
};
