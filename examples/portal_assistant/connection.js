// A connection string as psql takes it, "host=/tmp port=5432 dbname=test", for the driver; a URL is left to the driver.

const NAMES = { host: 'host', hostaddr: 'host', port: 'port', user: 'user', password: 'password', dbname: 'database' };
// name = value, where a value with blanks stands in quotes and a backslash saves what follows it.
const SETTING = /\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)\s*/y;

export function readConnection(text) {
  if (/^postgres(ql)?:\/\//.test(text)) {
    return { connectionString: text };
  }
  const connection = {};
  SETTING.lastIndex = 0;
  while (SETTING.lastIndex < text.length) {
    const found = SETTING.exec(text);
    if (!found) {
      throw new Error(`"${text}" is not a connection string such as "host=/tmp dbname=test"`);
    }
    const [, name, value] = found;
    if (!(name in NAMES)) {
      throw new Error(`the connection string may set ${Object.keys(NAMES).join(', ')}, not ${name}`);
    }
    connection[NAMES[name]] = value.replace(/^'|'$/g, '').replace(/\\(.)/g, '$1');
  }
  return connection;
}
