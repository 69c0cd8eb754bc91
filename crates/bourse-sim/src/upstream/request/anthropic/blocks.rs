//! The turns of a conversation with Anthropic and the blocks in them.
//!
//! Each call of a tool must be answered in the next turn, before anything else; thinking must be as this
//! seller signed it. Thinking may be left out, which the documentation forbids and the API allows.

use super::{Reader, TOOL_NAME_MAX};
use crate::upstream::request::CallError;
use crate::upstream::request::field::Field;
use crate::upstream::signature;
use serde_json::Value;

impl Reader<'_> {
    /// Reads the conversation; true when it ends in a tool's result.
    pub(super) fn messages(&mut self, field: &Field<'_>) -> Result<bool, CallError> {
        let messages = field.items()?;
        if messages.is_empty() {
            return Err(CallError::refused("messages: at least one message is required"));
        }
        let mut ends_in_result = false;
        for (at, message) in messages.iter().enumerate() {
            message.only(&["role", "content"])?;
            let role = message.get("role").str()?;
            match role {
                "user" | "assistant" => {}
                "system" => {
                    return Err(CallError::refused(
                        "messages: Unexpected role \"system\". The Messages API accepts a top-level `system` \
                         parameter, not \"system\" as an input message role.",
                    ));
                }
                _ => return Err(message.get("role").wrong("'user' or 'assistant'")),
            }
            if at == 0 && role != "user" {
                return Err(CallError::refused("messages: first message must use the \"user\" role"));
            }
            self.at = at;
            self.prompt.message(role);
            let is_last = at + 1 == messages.len();
            ends_in_result = self.content(message, role, is_last)?;
            if role == "user" {
                self.refuse_unanswered()?;
            }
        }
        self.at = messages.len();
        self.refuse_unanswered()?;
        Ok(ends_in_result)
    }

    fn refuse_unanswered(&self) -> Result<(), CallError> {
        if self.open.waiting().is_empty() {
            return Ok(());
        }
        Err(CallError::refused(format!(
            "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
             `tool_use` block must have a corresponding `tool_result` block in the next message.",
            self.at.saturating_sub(1),
            self.open.waiting().join(", ")
        )))
    }

    fn content(&mut self, message: &Field<'_>, role: &str, is_last: bool) -> Result<bool, CallError> {
        let content = message.get("content");
        if let Value::String(text) = content.value {
            if text.is_empty() && !(is_last && role == "assistant") {
                return Err(CallError::refused(format!(
                    "{}: all messages must have non-empty content except for the optional final assistant message",
                    message.path()
                )));
            }
            if is_last && role == "assistant" && text.ends_with(char::is_whitespace) {
                return Err(CallError::refused(
                    "messages: final assistant content cannot end with trailing whitespace",
                ));
            }
            self.prompt.text(text, None);
            return Ok(false);
        }
        let blocks = content.items()?;
        if blocks.is_empty() && !(is_last && role == "assistant") {
            return Err(content.wrong("a list with at least one block"));
        }
        let (mut has_result, mut has_other) = (false, false);
        for block in &blocks {
            if role == "assistant" {
                self.assistant_block(block)?;
            } else if block.get("type").value == "tool_result" {
                // A result behind other content does not count as following its call.
                if has_other {
                    self.refuse_unanswered()?;
                }
                has_result = true;
                self.tool_result(block)?;
            } else {
                has_other = true;
                self.user_block(block)?;
            }
        }
        Ok(has_result)
    }

    fn user_block(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        match block.get("type").one_of(&["text", "image", "document", "search_result", "tool_result"])? {
            "text" => self.text(block),
            "image" => self.image(block),
            _ => {
                let mark = self.marks.read(block)?;
                self.prompt.silent(&block.value.to_string(), mark);
                Ok(())
            }
        }
    }

    fn image(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "source", "cache_control"])?;
        let source = block.get("source");
        let data = match source.get("type").one_of(&["base64", "url", "file"])? {
            "base64" => {
                let kinds = ["image/jpeg", "image/png", "image/gif", "image/webp"];
                source.get("media_type").one_of(&kinds)?;
                source.get("data").str()?
            }
            "url" => source.get("url").str()?,
            _ => source.get("file_id").str()?,
        };
        let mark = self.marks.read(block)?;
        self.prompt.image(data, mark);
        Ok(())
    }

    fn tool_result(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
        let id = block.get("tool_use_id").str()?;
        if !self.open.answered(id) {
            return Err(CallError::refused(format!(
                "{}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must \
                 have a corresponding `tool_use` block in the previous message.",
                block.path()
            )));
        }
        block.get("is_error").flag()?;
        let content = block.get("content");
        match content.value {
            Value::Null => {}
            Value::String(text) => self.prompt.text(text, None),
            _ => {
                for part in content.items()? {
                    match part.get("type").one_of(&["text", "image", "document", "search_result"])? {
                        "text" => self.text(&part)?,
                        "image" => self.image(&part)?,
                        _ => self.prompt.silent(&part.value.to_string(), None),
                    }
                }
            }
        }
        let mark = self.marks.read(block)?;
        self.prompt.silent(id, mark);
        Ok(())
    }

    fn assistant_block(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        let seller = &self.config.name;
        match block.get("type").str()? {
            "text" => self.text(block),
            "thinking" => {
                block.only(&["type", "thinking", "signature"])?;
                let (text, signature) = (block.get("thinking").str()?, block.get("signature").str()?);
                if !signature::is_valid(seller, text, signature) {
                    let path = block.path();
                    let text = format!("{path}: Invalid `signature` in `thinking` block");
                    return Err(CallError::refused(text));
                }
                self.prompt.silent(text, None);
                Ok(())
            }
            "redacted_thinking" => {
                block.only(&["type", "data"])?;
                let data = block.get("data").str()?;
                if !signature::is_own(seller, data) {
                    let path = block.path();
                    let text = format!("{path}: Invalid `data` in `redacted_thinking` block");
                    return Err(CallError::refused(text));
                }
                self.prompt.silent(data, None);
                Ok(())
            }
            "tool_use" => self.tool_use(block),
            "server_tool_use" | "web_search_tool_result" | "code_execution_tool_result" => {
                self.prompt.silent(&block.value.to_string(), None);
                Ok(())
            }
            other => Err(block.get("type").wrong(format!("a block of an assistant, not '{other}'"))),
        }
    }

    fn tool_use(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
        let id = block.get("id").name(256)?;
        block.get("name").name(TOOL_NAME_MAX)?;
        if !block.get("input").value.is_object() {
            return Err(block.get("input").wrong("a valid dictionary"));
        }
        if !self.open.called(id) {
            let message = format!("{}: `tool_use` ids must be unique", block.path());
            return Err(CallError::refused(message));
        }
        let mark = self.marks.read(block)?;
        self.prompt.silent(&block.get("input").value.to_string(), mark);
        Ok(())
    }
}
