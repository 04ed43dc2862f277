//! A response as far as it has come.

/// The most fields of a response's head.
const FIELDS: usize = 64;

/// What is known of the response that is awaited.
#[derive(Default)]
pub(crate) struct Response {
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is there.
    left: Option<u64>,
}

impl Response {
    /// Takes bytes that have come; true once the response is whole.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let body = match self.left {
            Some(left) => {
                self.left = Some(left.checked_sub(bytes.len() as u64).ok_or("more than the response came")?);
                return Ok(self.left == Some(0));
            }
            None => {
                self.head.extend_from_slice(bytes);
                match parse(&self.head)? {
                    Some((head, length)) => {
                        let body = self.head.len().saturating_sub(head) as u64;
                        length.checked_sub(body).ok_or("more than the response came")?
                    }
                    None => return Ok(false),
                }
            }
        };
        self.left = Some(body);
        Ok(body == 0)
    }

    /// Forgets it, for the next one.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.left = None;
    }
}

/// The lengths of a head and of the body it announces, once the head is whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, u64)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the response cannot be read: {error}")),
    };
    match response.code {
        Some(200) => {}
        other => return Err(format!("the response's status is {other:?}")),
    }
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
    Ok(Some((head, length.ok_or("the response has no length")?)))
}
