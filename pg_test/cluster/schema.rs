//! Everything the extension has in a database, in lines that can be compared: definitions, bodies, labels, rights,
//! comments, and what a dump carries.

use crate::session::Session;

/// Lines of one column, each beginning with the object. Owners are left out: they are whoever creates the extension.
const LINES: &str = r#"
WITH member AS (
    SELECT d.classid, d.objid, i.type || ' ' || i.identity AS name
    FROM pg_extension AS e
    JOIN pg_depend AS d ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS i
    WHERE e.extname = 'vector_tools'
), relation AS (
    SELECT m.name, c.* FROM member AS m JOIN pg_class AS c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
), line (name, kind, text) AS (
    SELECT name, 'comment', obj_description(objid, classid::regclass::name) FROM member
    UNION ALL
    SELECT m.name, 'definition', pg_get_functiondef(p.oid) || ' cost ' || procost || ' rows ' || prorows
    FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
    UNION ALL
    SELECT m.name, 'right', a.item::text
    FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass,
         unnest(coalesce(proacl, acldefault('f', proowner))) AS a(item)
    UNION ALL
    SELECT m.name, 'right', a.item::text
    FROM member AS m JOIN pg_namespace AS n ON n.oid = m.objid AND m.classid = 'pg_namespace'::regclass,
         unnest(coalesce(nspacl, acldefault('n', nspowner))) AS a(item)
    UNION ALL
    SELECT m.name, 'definition', concat_ws(' ', typtype, typcategory, typlen, typbyval, typalign, typstorage, typinput, typoutput,
               typreceive, typsend, typmodin, typcollation, typdefault)
    FROM member AS m JOIN pg_type AS t ON t.oid = m.objid AND m.classid = 'pg_type'::regclass
    UNION ALL
    SELECT m.name, 'definition', concat_ws(' ', castfunc::regprocedure, castcontext, castmethod)
    FROM member AS m JOIN pg_cast AS c ON c.oid = m.objid AND m.classid = 'pg_cast'::regclass
    UNION ALL
    SELECT m.name, 'definition', concat_ws(' ', evtevent, evtfoid::regprocedure, evtenabled, evttags)
    FROM member AS m JOIN pg_event_trigger AS t ON t.oid = m.objid AND m.classid = 'pg_event_trigger'::regclass
    UNION ALL
    SELECT name, 'definition', concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions,
               CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END)
    FROM relation
    UNION ALL
    SELECT r.name, 'right', a.item::text FROM relation AS r, unnest(coalesce(relacl, acldefault('r', relowner))) AS a(item)
    UNION ALL
    SELECT r.name, 'column', concat_ws(' ', row_number() OVER (PARTITION BY r.oid ORDER BY attnum), attname,
               format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull, attidentity, attgenerated, attacl,
               pg_get_expr(adbin, adrelid), '-- ' || col_description(r.oid, attnum))
    FROM relation AS r JOIN pg_attribute ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL
    SELECT r.name, 'constraint', conname || ' ' || pg_get_constraintdef(c.oid) FROM relation AS r JOIN pg_constraint AS c ON conrelid = r.oid
    UNION ALL
    SELECT r.name, 'index', pg_get_indexdef(indexrelid) FROM relation AS r JOIN pg_index ON indrelid = r.oid
    UNION ALL
    SELECT r.name, 'trigger', tgenabled::text || ' ' || pg_get_triggerdef(t.oid)
    FROM relation AS r JOIN pg_trigger AS t ON tgrelid = r.oid AND NOT tgisinternal
    UNION ALL
    SELECT r.name, 'rule', pg_get_ruledef(w.oid) FROM relation AS r JOIN pg_rewrite AS w ON ev_class = r.oid AND rulename <> '_RETURN'
    UNION ALL
    SELECT r.name, 'policy', concat_ws(' ', polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM relation AS r JOIN pg_policy ON polrelid = r.oid
    UNION ALL
    SELECT r.name, 'dumped', u.condition
    FROM relation AS r JOIN pg_extension AS e ON e.extname = 'vector_tools', unnest(e.extconfig, e.extcondition) AS u(config, condition)
    WHERE u.config = r.oid
    UNION ALL
    SELECT name, 'unknown', 'this comparison does not know objects of this kind' FROM member
    WHERE classid NOT IN ('pg_proc'::regclass, 'pg_namespace'::regclass, 'pg_type'::regclass, 'pg_cast'::regclass,
                          'pg_event_trigger'::regclass, 'pg_class'::regclass)
)
SELECT whole FROM (SELECT name || ' ' || kind || ' ' || coalesce(text, 'none') AS whole FROM line) AS l ORDER BY whole COLLATE "C""#;

/// The lines of this session's database.
pub fn lines(session: &mut Session) -> Vec<String> {
    let lines = session.rows(LINES);
    let unknown: Vec<&String> =
        lines.iter().filter(|line| line.contains(" unknown this comparison")).collect();
    assert!(unknown.is_empty(), "expected schema.rs to compare every kind of object, but not {unknown:#?}");
    lines
}

/// What one has and the other has not.
pub fn differences(expected: &[String], found: &[String]) -> Vec<String> {
    let missing = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("missing: {line}"));
    let new = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("new: {line}"));
    missing.chain(new).collect()
}
