'use strict';
// Plays one scenario against a broker and prints what it found as JSON.
//
//   node run.js HOST:PORT SCENARIO QUEUE        SCENARIO is FILE.FUNCTION, from scenarios/

const { connect } = require('../../../examples/node/towline');

async function main(address, scenario, queue) {
  const [file, name] = scenario.split('.');
  const play = require(`./scenarios/${file}`)[name];
  const broker = connect(address);
  try {
    console.log(JSON.stringify(await play(broker, queue, address)));
  } finally {
    broker.close();
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
