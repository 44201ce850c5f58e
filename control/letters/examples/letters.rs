//! Prints every sample letter, to be read by a person: `cargo run -p letters --example letters -- de`.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

fn main() {
    let language = std::env::args().nth(1).unwrap_or_else(|| "en".to_owned());
    let templates = letters::Templates::built_in();
    let house = letters::sample_house();
    let files = ["netscan.log".to_owned(), "dump.log".to_owned(), "dump.pcapng".to_owned()];
    let all = letters::samples(&language);
    for letter in &all {
        match templates.text(letter, &house, &files, &[]) {
            Ok(t) => println!("{}\n\n{}\n{}\n", t.subject, t.body, "=".repeat(76)),
            Err(e) => println!("{e}"),
        }
    }
    let digest = letters::Digest { parts: &all, at: all[0].at };
    match templates.digest(&digest, &house, &["digest.csv".to_owned()], &[]) {
        Ok(t) => println!("{}\n\n{}", t.subject, t.body),
        Err(e) => println!("{e}"),
    }
}
