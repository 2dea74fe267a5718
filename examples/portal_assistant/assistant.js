// Asks the portal: `node assistant.js "CONNECTION STRING" [question]`. Without a question it shows what the store can do.

import { readChunks } from './catalogue.js';
import { readConnection } from './connection.js';
import { EmbeddingStore } from './embedding_store.js';

const PAYMENTS = 'component:default/payments-api';

async function main([connection, ...words]) {
  if (connection === undefined) {
    throw new Error('usage: node assistant.js "CONNECTION STRING" [question], such as "host=/tmp dbname=test"');
  }
  const store = new EmbeddingStore(readConnection(connection));
  try {
    await store.initialize();
    const chunks = await readChunks();
    if (words.length > 0) {
      await store.storeBatch(chunks);
      await ask(store, words.join(' '));
    } else {
      await show(store, chunks);
    }
  } finally {
    await store.close();
  }
}

async function show(store, chunks) {
  console.log('The catalogue and the documentation of the portal, stored in batches; only texts that are new or changed are embedded.\n');
  await storeAll(store, chunks);
  const entities = new Set(chunks.map(chunk => chunk.entityId)).size;
  console.log(`\n${await store.count()} chunks of ${entities} entities are stored.\n`);

  console.log('Questions to all of them, whose words are hardly in the answers.\n');
  await ask(store, 'how long until the customer gets the money back?');
  await ask(store, 'my container was terminated, out of memory');
  await ask(store, 'I lost the device that I sign in with');

  console.log('Questions to one entity only.\n');
  await ask(store, 'who gets woken up at night?', PAYMENTS, 1);
  await ask(store, 'can I undo a bad release?', 'component:default/checkout-web', 1);

  console.log('A sentence of the documentation changes: one chunk is embedded again, and the answer follows.\n');
  const changed = chunks.map(chunk => chunk.content.startsWith('A refund is requested')
    ? { ...chunk, content: 'A refund is instant: the customer has the money within a minute of POST /refunds.' } : chunk);
  await storeAll(store, changed);
  console.log();
  await ask(store, 'how long until the customer gets the money back?', PAYMENTS, 1);

  console.log('An entity is removed from the portal, and comes back.\n');
  console.log(`  cleared ${await store.clear(PAYMENTS)} chunks of ${PAYMENTS}; it has ${await store.count(PAYMENTS)}, all others ${await store.count()}`);
  await storeAll(store, chunks);
  console.log(`\n${await store.count()} chunks are stored. Ask on: node examples/portal_assistant/assistant.js "CONNECTION STRING" your question`);
}

async function storeAll(store, chunks) {
  let number = 0;
  await store.storeBatch(chunks, ({ given, written, embedded }) => {
    number += 1;
    console.log(`  batch ${number}: ${given} chunks, ${written} written, ${embedded} embedded`);
  });
}

async function ask(store, question, entityId = undefined, topK = 2) {
  console.log(entityId === undefined ? `> ${question}` : `> ${question} (${entityId})`);
  for (const hit of await store.search(question, topK, entityId)) {
    console.log(`  ${hit.similarity.toFixed(2)}  ${hit.entity_name}, ${hit.source}: ${hit.content}`);
  }
  console.log();
}

main(process.argv.slice(2)).catch(error => {
  console.error(error.detail || error.hint ? `${error.message}\n${error.detail ?? ''}\n${error.hint ?? ''}` : error.message);
  process.exitCode = 1;
});
