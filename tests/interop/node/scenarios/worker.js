'use strict';
// Beside the worker of the example: what becomes of jobs that it cannot do, and being told to stop.

const { push, until } = require('../steps');

exports.refusals = async (broker, queue) => {
  const retry = { maxAttempts: 1 };
  const ids = {
    badPayload: await push(broker, queue, { type: 'CountWords', payload: Buffer.from('{"te') }),
    throws: await push(broker, queue, { type: 'CountWords', payload: Buffer.from('{}'), retry }),
    unknownType: await push(broker, queue, { type: 'CountSheep', retry }),
  };
  const found = {};
  for (const [name, id] of Object.entries(ids)) {
    let job;
    await until(async () => {
      ({ job } = await broker.queue.getJob({ id }));
      return job.lastFailure !== null;
    });
    found[name] = [job.state, job.deadReason, job.lastFailure.type];
  }
  return found;
};

exports.stop = async (broker) => {
  const listed = async () => (await broker.admin.listWorkers({})).workers;
  await until(async () => (await listed()).length === 1);
  const [{ workerId, queues }] = await listed();
  await broker.admin.stopWorker({ workerId });
  return { queues };
};
