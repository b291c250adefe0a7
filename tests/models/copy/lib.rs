//! Copies of src/mechanism/ and src/protocol/ as they stand, for the models and the simulation: under other atomics, or
//! as a mutant that must be caught.

use proc_macro::{TokenStream, TokenTree};
use std::{fs, path::Path};

/// `mechanism! { name, "file.rs": "text" => "other text", ... }` is a module `name` with the whole of src/mechanism/
/// without its unit tests. Each text must be in its file exactly once: a mutant cannot outlive what it mutates.
#[proc_macro]
pub fn mechanism(input: TokenStream) -> TokenStream {
    copied("src/mechanism", input)
}

/// The same of src/protocol/.
#[proc_macro]
pub fn protocol(input: TokenStream) -> TokenStream {
    copied("src/protocol", input)
}

fn copied(folder: &str, input: TokenStream) -> TokenStream {
    let copied = copy(folder, input).unwrap_or_else(|message| format!("compile_error!({message:?});"));
    copied.parse().expect("what was copied from Rust is Rust")
}

fn copy(folder: &str, input: TokenStream) -> Result<String, String> {
    let (mut words, mut texts) = (Vec::new(), Vec::new());
    for token in input {
        match token {
            TokenTree::Ident(word) => words.push(word.to_string()),
            TokenTree::Literal(text) => texts.push(text.to_string().trim_matches('"').to_string()),
            _ => (),
        }
    }
    let [name] = &words[..] else { return Err("one name is needed".into()) };
    let (changes, []) = texts.as_chunks::<3>() else { return Err("a change is a file and two texts".into()) };

    let root = std::env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
    let folder = Path::new(&root).join(folder);
    if let Some([file, ..]) = changes.iter().find(|[file, ..]| !folder.join(file).is_file()) {
        return Err(format!("there is no {file}"));
    }
    let main = read(&folder, "mod.rs", changes)?;
    let mut copied = String::new();
    for line in main.lines() {
        match line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            Some(module) => {
                let text = read(&folder, &format!("{module}.rs"), changes)?;
                copied += &format!("pub mod {module} {{\n{text}\n}}\n");
            }
            None => copied += &format!("{line}\n"),
        }
    }
    Ok(format!("#[allow(dead_code, clippy::all)] mod {name} {{\n{copied}\n}}"))
}

/// The text of a file, with its changes made and its unit tests left out, and a note to the compiler that the file was read.
fn read(folder: &Path, file: &str, changes: &[[String; 3]]) -> Result<String, String> {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text = text.split("#[cfg(test)]").next().unwrap_or_default().to_string();
    for [_, from, to] in changes.iter().filter(|[changed, ..]| changed == file) {
        match text.matches(from).count() {
            1 => text = text.replace(from, to),
            found => return Err(format!("{file} has {found} times, not once: {from}")),
        }
    }
    Ok(format!("{text}\nconst _: &[u8] = include_bytes!({path:?});"))
}
