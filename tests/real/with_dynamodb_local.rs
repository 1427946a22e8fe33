//! Runs a command with a DynamoDB Local, whose URL is in the variable `ENGINE_URL`:
//! `with-dynamodb-local cargo test --test chaos`.

use std::{
    env,
    process::{Command, ExitCode},
};

use hot_products_tests::parts::DynamoDbLocal;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("with-dynamodb-local: give a command to run");
        return ExitCode::FAILURE;
    };
    let dynamodb = DynamoDbLocal::start();
    match Command::new(&program).args(arguments).env("ENGINE_URL", dynamodb.endpoint()).status() {
        // A killed command has no exit code.
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("with-dynamodb-local: can't start {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
