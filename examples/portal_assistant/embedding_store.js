// The portal's embeddings in PostgreSQL. The server embeds what is new or has changed, so no vector travels over the connection.

import { readFile } from 'node:fs/promises';
import pg from 'pg';

export const ROWS_A_STATEMENT = 100;
const MODEL = 'all-MiniLM-L6-v2';

// Texts that changed are embedded by one call; rows that are there already with the same values are not touched.
const UPSERT = `
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::integer[])
        AS g (id, chunk_id, entity_id, entity_name, content, source, chunk_index, total_chunks)
), changed AS (
    SELECT g.*, e.content IS DISTINCT FROM g.content AS is_new_text, e.vector AS known
    FROM given AS g LEFT JOIN embeddings AS e USING (id)
    WHERE (e.chunk_id, e.entity_id, e.entity_name, e.content, e.source, e.chunk_index, e.total_chunks)
        IS DISTINCT FROM (g.chunk_id, g.entity_id, g.entity_name, g.content, g.source, g.chunk_index, g.total_chunks)
), batch AS (
    SELECT array_agg(id ORDER BY id) AS ids, embed(array_agg(content ORDER BY id), '${MODEL}') AS vectors
    FROM changed WHERE is_new_text
), embedded AS (
    SELECT e.* FROM batch, unnest(batch.ids, batch.vectors) AS e (id, vector)
), written AS (
    INSERT INTO embeddings (id, chunk_id, entity_id, entity_name, vector, content, source, chunk_index, total_chunks)
    SELECT c.id, c.chunk_id, c.entity_id, c.entity_name, coalesce(e.vector, c.known), c.content, c.source, c.chunk_index, c.total_chunks
    FROM changed AS c LEFT JOIN embedded AS e USING (id)
    ON CONFLICT (id) DO UPDATE SET
        chunk_id = excluded.chunk_id, entity_id = excluded.entity_id, entity_name = excluded.entity_name,
        vector = excluded.vector, content = excluded.content, source = excluded.source,
        chunk_index = excluded.chunk_index, total_chunks = excluded.total_chunks, updated_at = now()
)
SELECT count(*)::integer AS written, (count(*) FILTER (WHERE is_new_text))::integer AS embedded FROM changed`;

// The filter holds in both legs of the search, so topK chunks come back whenever the entity has as many.
const SEARCH = `
SELECT e.id, e.entity_id, e.entity_name, e.content, e.source, e.chunk_index, e.total_chunks, h.similarity
FROM hybrid_search('embeddings', $1, k => $2, filter => $3::jsonb, fusion => 'adaptive') AS h
JOIN embeddings AS e USING (id)
ORDER BY h.score DESC`;

export class EmbeddingStore {
  #pool;

  /** @param connection what pg.Pool takes; see connection.js */
  constructor(connection) {
    this.#pool = new pg.Pool({ max: 4, idleTimeoutMillis: 10_000, connectionTimeoutMillis: 10_000, ...connection });
    // A session that the server ends while nobody uses it is replaced at the next question.
    this.#pool.on('error', error => console.error(`an idle connection was lost: ${error.message}`));
  }

  /** Makes the extension, the table and its indexes where they are missing. */
  async initialize() {
    await this.#pool.query(await readFile(new URL('migrations/001_initial_schema.sql', import.meta.url), 'utf8'));
  }

  /** Writes chunks, a hundred a statement, all of them or none; tells of each statement. */
  async storeBatch(chunks, tell = () => {}) {
    await this.#inTransaction(async client => {
      for (let first = 0; first < chunks.length; first += ROWS_A_STATEMENT) {
        const batch = chunks.slice(first, first + ROWS_A_STATEMENT);
        const column = name => batch.map(chunk => chunk[name]);
        const { rows } = await client.query({
          name: 'upsert',
          text: UPSERT,
          values: ['id', 'chunkId', 'entityId', 'entityName', 'content', 'source', 'chunkIndex', 'totalChunks'].map(column),
        });
        tell({ given: batch.length, ...rows[0] });
      }
    });
  }

  /** Writes one chunk. */
  async store(chunk) {
    await this.storeBatch([chunk]);
  }

  /** The chunks that best answer a question, of one entity if one is named. */
  async search(question, topK = 5, entityId = undefined) {
    const filter = entityId === undefined ? null : JSON.stringify({ entity_id: entityId });
    const { rows } = await this.#pool.query({ name: 'search', text: SEARCH, values: [question, topK, filter] });
    return rows;
  }

  /** Deletes the chunks of an entity, or all; returns how many. */
  async clear(entityId = undefined) {
    const { rowCount } = await this.#pool.query(
      'DELETE FROM embeddings WHERE $1::text IS NULL OR entity_id = $1', [entityId ?? null]);
    return rowCount;
  }

  /** How many chunks an entity has, or how many there are. */
  async count(entityId = undefined) {
    const { rows } = await this.#pool.query(
      'SELECT count(*)::integer AS count FROM embeddings WHERE $1::text IS NULL OR entity_id = $1', [entityId ?? null]);
    return rows[0].count;
  }

  /** Ends all connections. */
  async close() {
    await this.#pool.end();
  }

  async #inTransaction(work) {
    const client = await this.#pool.connect();
    try {
      await client.query('BEGIN');
      await work(client);
      await client.query('COMMIT');
    } catch (error) {
      // The first error is the one to tell of, even where the connection is gone.
      await client.query('ROLLBACK').catch(() => {});
      throw error;
    } finally {
      client.release();
    }
  }
}
