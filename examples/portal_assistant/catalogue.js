// What the portal knows: each file of the folder catalogue is an entity with its description and its documentation.

import { readFile, readdir } from 'node:fs/promises';

const FOLDER = new URL('catalogue/', import.meta.url);

/** The chunks of all entities, a sentence or a point of a list each. */
export async function readChunks() {
  const files = (await readdir(FOLDER)).filter(name => name.endsWith('.md')).sort();
  const entities = await Promise.all(files.map(async name => chunksOf(await readFile(new URL(name, FOLDER), 'utf8'))));
  return entities.flat();
}

function chunksOf(text) {
  const lines = text.split('\n').filter(line => line.trim() !== '');
  const [, entityId, entityName] = /^# (\S+) — (.+)$/.exec(lines[0]);
  let source = 'catalog';
  const found = [];
  for (const line of lines.slice(1)) {
    if (line.startsWith('## ')) {
      // What follows the first heading is the documentation.
      source = 'techdocs';
    } else {
      found.push({ source, content: line.replace(/^- /, '') });
    }
  }
  return found.map((chunk, index) => ({
    ...chunk,
    id: `${entityId}#${index}`,
    chunkId: `${entityId}#${index}`,
    entityId,
    entityName,
    chunkIndex: index,
    totalChunks: found.length,
  }));
}
