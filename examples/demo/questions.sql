-- Questions whose words are hardly in the best answers, as anyone would ask them in psql.
PREPARE ask(text) AS
SELECT left(content, 72) AS answer, round(score::numeric, 4) AS score, vector_rank, text_rank
FROM hybrid_search('server_memories', $1, k => 3);

\echo 'Q: glue strings together with something in between'
EXECUTE ask('glue strings together with something in between');
\echo 'Q: throw dice'
EXECUTE ask('throw dice');
\echo 'Q: shout in capitals'
EXECUTE ask('shout in capitals');
\echo 'Q: drop blanks at both ends'
EXECUTE ask('drop blanks at both ends');
\echo 'Q: largest count of people connected at once'
EXECUTE ask('largest count of people connected at once');

\echo 'vector_rank and text_rank are the places in the vector leg and in the keyword leg; score adds 1 / (60 + rank).'
\echo
\echo 'Go on in psql (make psql):'
\echo '  SELECT content, score FROM hybrid_search(''server_memories'', ''your own question'');'
\echo '  SELECT content FROM hybrid_search(''server_memories'', ''read a file'', filter => ''{"source": "setting"}'');'
\echo '  INSERT INTO server_memories (content) VALUES (''anything: it embeds by itself'');'
\echo '  \\d server_memories    \\df+ hybrid_search    SELECT * FROM vector_tools.models;'
