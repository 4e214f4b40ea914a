// Reads topics as a service does with KafkaJS: committed messages, until so many of these keys have come, and
// what else comes within a second.
const { readFileSync } = require("node:fs");
const { Kafka, logLevel } = require("kafkajs");

const { brokers, topics, keys, count } = JSON.parse(readFileSync(0, "utf8"));
const kafka = new Kafka({ clientId: "tests", brokers: [brokers], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: `tests-${process.pid}-${Date.now()}`, maxWaitTimeInMs: 200 });

const text = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, `${value}`]));

const read = () =>
  new Promise((resolve, reject) => {
    let found = 0;
    setTimeout(() => reject(new Error(`only ${found} of ${count} messages came`)), 90_000).unref();
    const eachMessage = async ({ topic, message: { key, value, headers } }) => {
      if (!keys.includes(`${key}`)) return;
      console.log(JSON.stringify({ topic, key: `${key}`, headers: text(headers), value: JSON.parse(value) }));
      found += 1;
      if (found === count) setTimeout(resolve, 1_000);
    };
    consumer.run({ partitionsConsumedConcurrently: 8, eachMessage }).catch(reject);
  });

(async () => {
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  await read();
  await consumer.disconnect();
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
