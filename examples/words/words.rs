use std::io::{self, Read};

/// Counts the words of its input.
fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    eprintln!("read everything");
    println!("{}", text.split_whitespace().count());
    Ok(())
}
