'use strict';
// Pushes one job, waits until it has ended, and prints its result.
//
//   node producer.js TEXT [HOST:PORT]

const { randomUUID } = require('node:crypto');
const { connect, duration, untilAnswered } = require('./towline');

const ENDED = ['JOB_STATE_SUCCEEDED', 'JOB_STATE_DEAD', 'JOB_STATE_CANCELLED'];

async function main(text, address = '127.0.0.1:7480') {
  const broker = connect(address);
  try {
    const id = await push(broker, { queue: 'texts', type: 'CountWords' }, { text });
    const job = await ended(broker, id);
    if (job.state !== 'JOB_STATE_SUCCEEDED') {
      throw new Error(`job ${id}: ${job.state}: ${job.lastFailure?.message ?? ''}`);
    }
    console.log(job.result.toString());
  } finally {
    broker.close();
  }
}

/** Returns the id of the job. It is made here and not by the broker, so that a Push can be repeated. */
async function push(broker, job, args) {
  const id = randomUUID();
  const payload = Buffer.from(JSON.stringify(args));
  const jobs = [{ id, ...job, payload, contentType: 'application/json' }];
  await untilAnswered(() => broker.queue.push({ jobs }));
  return id;
}

async function ended(broker, id) {
  for (;;) {
    const request = { id, wait: duration(30) };
    const { job } = await untilAnswered(() => broker.queue.getJob(request, { timeout: 35 }));
    if (ENDED.includes(job.state)) return job;
  }
}

const [text, address] = process.argv.slice(2);
if (text === undefined) {
  console.error('usage: node producer.js TEXT [HOST:PORT]');
  process.exitCode = 2;
} else {
  main(text, address).catch((error) => {
    console.error(`producer: ${error.message}`);
    process.exitCode = 1;
  });
}
