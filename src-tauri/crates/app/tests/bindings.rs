//! The TypeScript types and the table of calls in `ui/src/api/bindings.ts` derive from Rust; this fails when they are stale.
//! `UPDATE_BINDINGS=1 cargo test -p inkling-app --test bindings` writes them anew.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests fail loudly too

use domain::*;
use specta::datatype::{DataType, Fields, Primitive};
use specta::{Format, Types};
use std::fmt::Write as _;

#[test]
fn the_typescript_bindings_are_what_rust_declares() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../ui/src/api/bindings.ts");
    let wanted = bindings();
    if std::env::var_os("UPDATE_BINDINGS").is_some() {
        std::fs::write(path, &wanted).expect("bindings.ts is writable");
    }
    let found = std::fs::read_to_string(path).expect("bindings.ts is committed");
    assert!(found == wanted, "ui/src/api/bindings.ts is stale: UPDATE_BINDINGS=1 cargo test -p inkling-app --test bindings");
}

macro_rules! list_calls {
    ($($name:ident $method_name:ident $method:ident $path:literal $input:ty => $output:ty, $status:literal;)*) => {
        fn registered() -> Types {
            let types = Types::default()$(.register::<$input>().register::<$output>())*;
            types.register::<Event>().register::<WriteEvent>().register::<TrainEvent>().register::<ApiError>()
                .register::<Genre>().register::<Style>().register::<Theme>()
        }

        const CALLS: &[(&str, &str, &str, &str, &str)] =
            &[$((stringify!($method_name), stringify!($method), $path, stringify!($input), stringify!($output))),*];
    };
}

app::for_each_call!(list_calls);

fn bindings() -> String {
    let mut text = specta_typescript::Typescript::default()
        .header("// Generated from Rust, do not edit: UPDATE_BINDINGS=1 cargo test -p inkling-app --test bindings\n")
        .export(&registered(), FiniteNumbers)
        .expect("every type can be exported");
    text.push_str("\n/** Every call: what goes in and what comes out. */\nexport interface Calls {\n");
    for (name, _, _, input, output) in CALLS {
        let _ = writeln!(text, "\t{name}: {{ input: {}; output: {} }};", typescript(input), typescript(output));
    }
    text.push_str("}\n\n/** Where each call lives over HTTP; braces hold fields of the input. */\nexport const ROUTES: Record<keyof Calls, { method: \"GET\" | \"POST\" | \"PUT\" | \"DELETE\"; path: string }> = {\n");
    for (name, method, path, _, _) in CALLS {
        let _ = writeln!(text, "\t{name}: {{ method: \"{}\", path: \"{path}\" }},", method.to_uppercase());
    }
    let names = |kinds: Vec<(&str, &str)>| {
        kinds.iter().map(|(name, label)| format!("\t{{ name: \"{name}\", label: \"{label}\" }},\n")).collect::<String>()
    };
    text.push_str("};\n\nexport const GENRES: { name: Genre; label: string }[] = [\n");
    text.push_str(&names(Genre::ALL.iter().map(|genre| (genre.name(), genre.label())).collect()));
    text.push_str("];\n\nexport const STYLES: { name: Style; label: string }[] = [\n");
    text.push_str(&names(Style::ALL.iter().map(|style| (style.name(), style.label())).collect()));
    text.push_str("];\n");
    text
}

/// `Vec<Job>` is `Job[]`.
fn typescript(rust: &str) -> String {
    let rust = rust.replace(' ', "");
    rust.strip_prefix("Vec<").and_then(|rest| rest.strip_suffix('>')).map_or(rust.clone(), |inner| format!("{inner}[]"))
}

/// Serde's view of the types, with floats as plain `number`: every float that we send is finite.
struct FiniteNumbers;

impl Format for FiniteNumbers {
    fn map_types(&'_ self, types: &Types) -> Result<std::borrow::Cow<'_, Types>, specta::FormatError> {
        let mut types = specta_serde::Format.map_types(types)?.into_owned();
        types.iter_mut(|named| named.ty.iter_mut().for_each(make_finite));
        Ok(std::borrow::Cow::Owned(types))
    }

    fn map_type(&'_ self, types: &Types, one: &DataType) -> Result<std::borrow::Cow<'_, DataType>, specta::FormatError> {
        let mut one = specta_serde::Format.map_type(types, one)?.into_owned();
        make_finite(&mut one);
        Ok(std::borrow::Cow::Owned(one))
    }
}

fn make_finite(one: &mut DataType) {
    match one {
        DataType::Primitive(kind) if *kind == Primitive::f64 => *kind = Primitive::u32,
        DataType::Nullable(inner) => make_finite(inner),
        DataType::List(list) => make_finite(&mut list.ty),
        DataType::Map(map) => make_finite(map.value_ty_mut()),
        DataType::Tuple(tuple) => tuple.elements.iter_mut().for_each(make_finite),
        DataType::Intersection(parts) => parts.iter_mut().for_each(make_finite),
        DataType::Struct(one) => fields(&mut one.fields),
        DataType::Enum(one) => one.variants.iter_mut().for_each(|(_, variant)| fields(&mut variant.fields)),
        _ => {}
    }
}

fn fields(all: &mut Fields) {
    match all {
        Fields::Unnamed(all) => all.fields.iter_mut().flat_map(|field| field.ty.iter_mut()).for_each(make_finite),
        Fields::Named(all) => all.fields.iter_mut().flat_map(|(_, field)| field.ty.iter_mut()).for_each(make_finite),
        Fields::Unit => {}
    }
}
