//! `docs/configuration.md` lists every parameter of the templates and every setting of the functions, no others, and
//! with the default that the template and the code have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use count_clicks::CountSettings;
use hot_products::{
    settings::Settings,
    store::{CallLimits, client_from_env},
};
use hot_products_tests::repository;
use rank_products::RankSettings;
use read_board::BoardSettings;
use seed_clicks::SeedSettings;
use serde_yaml_ng::Value;

const FUNCTIONS: [&str; 3] = ["count-clicks", "rank-products", "read-board"];

/// The settings that only reach the SDK's client, which does not show them.
const OF_THE_CLIENT: [&str; 3] = ["AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"];

/// `None` for a parameter or setting that has no default.
type Default = Option<String>;

/// A row of the table of settings.
struct Setting {
    name: String,
    default: Default,
    functions: BTreeSet<&'static str>,
    parameter: Option<String>,
}

/// The rows of the table below a heading of the page, without its head.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(repository("docs/configuration.md")).expect("the page");
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().expect("a section");
    let rows: Vec<Vec<String>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "no table below {heading}");
    rows
}

fn code(cell: &str) -> Option<String> {
    cell.strip_prefix('`')?.strip_suffix('`').map(ToOwned::to_owned)
}

fn default(cell: &str) -> Default {
    match cell {
        "required" => None,
        "empty" => Some(String::new()),
        cell => Some(code(cell).unwrap_or_else(|| panic!("{cell:?} is not a default"))),
    }
}

/// The parameters that the page lists for a template.
fn documented_parameters(template: &str) -> BTreeMap<String, Default> {
    let rows = rows(&format!("Parameters of `{template}`"));
    let parameters: BTreeMap<_, _> =
        rows.iter().map(|row| (code(&row[0]).expect("a name"), default(&row[1]))).collect();
    assert_eq!(parameters.len(), rows.len(), "a parameter of {template} is listed twice");
    parameters
}

/// The settings that the page lists.
fn documented_settings() -> Vec<Setting> {
    let rows = rows("Settings of the functions");
    let names: BTreeSet<_> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(names.len(), rows.len(), "a setting is listed twice");
    let functions = |cell: &str| -> BTreeSet<&'static str> {
        let listed = |name: &&str| cell == "all" || cell.split(", ").any(|function| function == *name);
        let found: BTreeSet<_> = FUNCTIONS.into_iter().filter(listed).collect();
        let count = if cell == "all" { FUNCTIONS.len() } else { cell.split(", ").count() };
        assert_eq!(found.len(), count, "{cell:?} names something that is not a function");
        found
    };
    rows.iter()
        .map(|row| Setting {
            name: code(&row[0]).expect("a name"),
            default: default(&row[1]),
            functions: functions(&row[2]),
            parameter: code(&row[3]),
        })
        .collect()
}

fn template(path: &str) -> Value {
    let text = fs::read_to_string(repository(path)).expect("the template");
    serde_yaml_ng::from_str(&text).expect("YAML")
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => panic!("{other:?} is not a default"),
    }
}

/// The parameters that a template has.
fn parameters(path: &str) -> BTreeMap<String, Default> {
    let template = template(path);
    let parameters = template["Parameters"].as_mapping().expect("parameters");
    parameters.iter().map(|(name, parameter)| (scalar(name), parameter.get("Default").map(scalar))).collect()
}

/// The parameters that a value of the template refers to.
fn references(value: &Value, parameters: &BTreeMap<String, Default>) -> Vec<String> {
    match value {
        Value::Tagged(tagged) if tagged.tag == "!Ref" => tagged
            .value
            .as_str()
            .filter(|name| parameters.contains_key(*name))
            .map(ToOwned::to_owned)
            .into_iter()
            .collect(),
        Value::Tagged(tagged) => references(&tagged.value, parameters),
        Value::Sequence(values) => values.iter().flat_map(|value| references(value, parameters)).collect(),
        _ => Vec::new(),
    }
}

/// The string literals in a source file, or in those of a folder, that are names in capitals, without those in tests and
/// comments: the settings that the code reads.
fn literals(path: &Path, found: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            literals(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let source = fs::read_to_string(path).expect("a source file");
        let source = source.split("#[cfg(test)]").next().expect("a part");
        let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let source = code.join("\n");
        for (quote, _) in source.match_indices('"') {
            let rest = &source[quote + 1..];
            let name = rest.split('"').next().expect("a part");
            let capitals = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if name.len() > 4 && name.len() < rest.len() && name.bytes().all(capitals) {
                found.insert(name.to_owned());
            }
        }
    }
}

/// What a function makes of an environment: its settings, or the error that it stops with.
fn read(function: &str, environment: &BTreeMap<String, String>) -> String {
    let settings: Settings = environment.iter().collect();
    let own = match function {
        "count-clicks" => format!("{:?}", CountSettings::read(&settings)),
        "rank-products" => format!("{:?}", RankSettings::read(&settings)),
        "read-board" => format!("{:?}", BoardSettings::read(&settings)),
        other => panic!("{other} is not a function"),
    };
    let client = client_from_env(&settings).map(|client| client.config().region().cloned());
    format!("{own} {:?} {client:?}", CallLimits::read(&settings))
}

/// An environment that has only what is required.
fn required(settings: &[Setting]) -> BTreeMap<String, String> {
    let required = settings.iter().filter(|setting| setting.default.is_none());
    required.map(|setting| (setting.name.clone(), format!("a-{}", setting.name))).collect()
}

/// A value that is not `value`, and mostly valid.
fn another(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) => (number + 1).to_string(),
        Err(_) if value.is_empty() => "2".into(),
        Err(_) if value.ends_with('h') => value.replace("26h", "27h").replace("24h", "23h"),
        Err(_) if value.starts_with(|first: char| first.is_ascii_digit()) => "7m".into(),
        Err(_) => "public".into(),
    }
}

#[test]
fn the_parameters_and_their_defaults_are_those_of_the_templates() {
    for path in ["infra/template.yaml", "infra/msk.yaml", "infra/cdn.yaml", "infra/seed.yaml"] {
        assert_eq!(documented_parameters(path), parameters(path), "{path}");
    }
}

#[test]
fn the_settings_are_those_that_the_code_reads() {
    let settings = documented_settings();
    let mut shared = BTreeSet::new();
    literals(&repository("crates/hot-products/src"), &mut shared);
    // The library reads these for the functions that ask for them.
    let lifetimes = BTreeSet::from(["MAX_EVENT_AGE".to_owned(), "RETENTION".to_owned()]);
    assert!(lifetimes.is_subset(&shared));
    shared = shared.difference(&lifetimes).cloned().collect();
    let mut all = shared.clone();
    for function in FUNCTIONS {
        let mut own = BTreeSet::new();
        literals(&repository("functions").join(function).join("src"), &mut own);
        let source = fs::read_to_string(repository("functions").join(function).join("src/settings.rs"));
        if source.expect("the settings").contains("Lifetimes::read") {
            own.extend(lifetimes.iter().cloned());
        }
        let listed = settings.iter().filter(|setting| setting.functions.contains(function));
        let listed: BTreeSet<String> = listed.map(|setting| setting.name.clone()).collect();
        assert_eq!(listed, own.union(&shared).cloned().collect(), "{function}");
        all.append(&mut own);
    }
    assert_eq!(settings.into_iter().map(|setting| setting.name).collect::<BTreeSet<_>>(), all);
}

#[test]
fn the_defaults_of_the_settings_are_those_of_the_code() {
    let settings = documented_settings();
    let base = required(&settings);
    for function in FUNCTIONS {
        let without = read(function, &base);
        assert!(!without.contains("Err"), "{function} takes what is required: {without}");
        for setting in &settings {
            let with = |value: &str| {
                let mut environment = base.clone();
                environment.insert(setting.name.clone(), value.to_owned());
                read(function, &environment)
            };
            let concerned = setting.functions.contains(function);
            let name = &setting.name;
            match &setting.default {
                None => assert_eq!(with("").contains(&format!("{name} is not set")), concerned, "{function}: {name}"),
                Some(default) => {
                    assert_eq!(with(default), without, "{function}: the default of {name}");
                    if !OF_THE_CLIENT.contains(&name.as_str()) {
                        assert_eq!(with(&another(default)) != without, concerned, "{function}: {name}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_template_sets_what_the_page_says_to_the_same_default() {
    let path = "infra/template.yaml";
    let (parameters, template) = (parameters(path), template(path));
    let settings = documented_settings();
    let mut set = BTreeMap::new();
    for (_, resource) in template["Resources"].as_mapping().expect("resources") {
        let Some(variables) = resource["Properties"]["Environment"]["Variables"].as_mapping() else { continue };
        let binary = resource["Metadata"]["BuildProperties"]["Binary"].as_str().expect("a binary");
        for (name, value) in variables {
            let name = scalar(name);
            let setting = settings.iter().find(|setting| setting.name == name && setting.functions.contains(binary));
            let setting = setting.unwrap_or_else(|| panic!("{binary} does not read {name}"));
            for parameter in references(value, &parameters) {
                assert_eq!(parameters[&parameter], setting.default, "{name} and {parameter}");
                set.insert(name.clone(), parameter);
            }
        }
        let required = settings.iter().filter(|setting| setting.default.is_none() && !setting.name.starts_with("AWS_"));
        for setting in required.filter(|setting| setting.functions.contains(binary)) {
            assert!(variables.contains_key(setting.name.as_str()), "{binary} is not given {}", setting.name);
        }
    }
    let listed = settings.into_iter().filter_map(|setting| Some((setting.name, setting.parameter?)));
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), set);
}

#[test]
fn the_settings_of_seed_clicks_are_those_of_its_code_and_its_template() {
    let rows = rows("Settings of seed-clicks");
    let listed: BTreeMap<String, Default> =
        rows.iter().map(|row| (code(&row[0]).expect("a name"), default(&row[1]))).collect();
    assert_eq!(listed.len(), rows.len(), "a setting is listed twice");
    let mut read = BTreeSet::new();
    literals(&repository("functions/seed-clicks/src"), &mut read);
    // It reads the variables of Lambda as the other functions do.
    literals(&repository("crates/hot-products/src/settings.rs"), &mut read);
    // Not a setting: the name of IAM's mechanism.
    assert!(read.remove("OAUTHBEARER"));
    assert_eq!(listed.keys().cloned().collect::<BTreeSet<_>>(), read);

    let all: BTreeMap<String, String> = listed.keys().map(|name| (name.clone(), "b-1.shop:9098".into())).collect();
    assert!(SeedSettings::read(&all.iter().collect()).is_ok());
    for (name, default) in &listed {
        let others = all.iter().filter(|(other, _)| *other != name);
        let missing = SeedSettings::read(&others.collect()).err().map(|error| error.to_string());
        match default {
            None => assert!(missing.is_some_and(|message| message.contains(&format!("{name} is not set")))),
            Some(_) => assert_eq!(missing, None, "{name} has a default"),
        }
    }

    let path = "infra/seed.yaml";
    let (parameters, template) = (parameters(path), template(path));
    let variables = &template["Resources"]["SeedClicksFunction"]["Properties"]["Environment"]["Variables"];
    let variables = variables.as_mapping().expect("variables");
    let set: BTreeMap<String, Vec<String>> =
        variables.iter().map(|(name, value)| (scalar(name), references(value, &parameters))).collect();
    let wanted = rows.iter().filter_map(|row| Some((code(&row[0])?, vec![code(&row[2])?])));
    assert_eq!(wanted.collect::<BTreeMap<_, _>>(), set);
}
