//! Every object of the extension, with its rights and labels, against the expected list (1, 2, 24).

use std::collections::BTreeSet;
use std::fs;

use crate::database::Database;
use crate::server::root;

const EXPECTED: &str = "pg_test/cluster/expected/objects.txt";

/// One line an object. The owner is written as OWNER, whoever made the extension.
const OBJECTS: &str = "
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_depend AS d
        JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        WHERE e.extname = 'vector_tools' AND d.deptype = 'e'
    ), described AS (
        SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.oid::regprocedure
                   || coalesce(' returns ' || pg_get_function_result(p.oid), '') AS object,
               concat_ws(', ',
                   CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
                   'parallel ' || CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
                   CASE WHEN p.proisstrict THEN 'strict' END,
                   CASE WHEN p.prosecdef THEN 'SECURITY DEFINER' END,
                   array_to_string(p.proconfig, ', ')) AS labels,
               coalesce(p.proacl, acldefault('f', p.proowner)) AS rights, p.proowner AS owner,
               obj_description(p.oid, 'pg_proc') AS comment
        FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
        UNION ALL
        SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'r' THEN 'table ' ELSE c.relkind::text || ' ' END || c.oid::regclass,
               NULL, coalesce(c.relacl, acldefault('r', c.relowner)), c.relowner,
               obj_description(c.oid, 'pg_class')
        FROM member AS m JOIN pg_class AS c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
        UNION ALL
        SELECT 'schema ' || n.nspname, NULL, coalesce(n.nspacl, acldefault('n', n.nspowner)), n.nspowner,
               obj_description(n.oid, 'pg_namespace')
        FROM member AS m JOIN pg_namespace AS n ON n.oid = m.objid AND m.classid = 'pg_namespace'::regclass
        UNION ALL
        SELECT 'other ' || pg_describe_object(m.classid, m.objid, 0), NULL, NULL, NULL, 'not needed'
        FROM member AS m
        WHERE m.classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass)
    )
    SELECT object || E'\\n    ' || concat_ws('; ', labels,
               'rights ' || (SELECT string_agg(
                   replace(r.item::text, pg_get_userbyid(owner), 'OWNER'), ' ' ORDER BY r.item::text)
                   FROM unnest(rights) AS r(item)),
               CASE WHEN comment IS NULL THEN 'NO COMMENT' ELSE 'has a comment' END)
    FROM described ORDER BY object COLLATE \"C\"";

// trust 1, 2
#[test]
fn every_object_has_the_expected_rights_labels_and_a_comment() {
    let database = Database::with_extension("objects");
    let found = database.connect().rows(OBJECTS).join("\n") + "\n";
    let path = root().join(EXPECTED);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &found).expect("the expected list can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        let missing: Vec<&str> = expected.lines().filter(|line| !found.contains(line)).collect();
        let new: Vec<&str> = found.lines().filter(|line| !expected.contains(line)).collect();
        panic!(
            "expected the objects of {EXPECTED}; look at each difference, and if all are meant, run again with \
             UPDATE_EXPECTED=1\nmissing: {missing:#?}\nnew: {new:#?}"
        );
    }
    assert!(!found.contains("NO COMMENT"), "expected each object to have a comment:\n{found}");
    assert!(
        !found.contains("SECURITY DEFINER"),
        "expected no function with the rights of its owner:\n{found}"
    );
}

/// What a library offers to CREATE FUNCTION: each function has a second one beside it, by whose name PostgreSQL knows
/// how it is called.
fn offered(library: &[u8]) -> BTreeSet<String> {
    const BEFORE: &[u8] = b"\0pg_finfo_";
    let places = library.windows(BEFORE.len()).enumerate().filter(|(_, bytes)| *bytes == BEFORE);
    let names = places.filter_map(|(place, _)| {
        let rest = &library[place + BEFORE.len()..];
        let name = rest.split(|byte| *byte == 0).next()?;
        String::from_utf8(name.to_vec()).ok()
    });
    names.filter(|name| name.ends_with("_wrapper")).collect()
}

#[test]
fn the_install_script_declares_what_the_library_has() {
    let database = Database::with_extension("objects_library");
    let mut session = database.connect();
    let declared = session.rows(
        "SELECT DISTINCT p.prosrc FROM pg_proc AS p
         JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
         JOIN pg_language AS l ON l.oid = p.prolang
         WHERE e.extname = 'vector_tools' AND l.lanname = 'c'",
    );
    let folder = session.text("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    let library = fs::read(format!("{folder}/vector_tools.so")).expect("the library is installed");
    let declared: BTreeSet<String> = declared.into_iter().collect();
    assert!(declared.len() > 50, "expected the functions in C, not {declared:?}");
    assert_eq!(
        declared,
        offered(&library),
        "expected sql/ to declare the functions of the library, and no others"
    );
}
