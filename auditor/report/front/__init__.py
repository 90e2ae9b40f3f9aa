"""Page one: what an audit means, in the words of somebody who answers for data protection."""
