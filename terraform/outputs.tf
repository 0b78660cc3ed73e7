output "deployment" {
  description = "Which deployment this is: its project and region, in which it stays."
  value       = "${var.project} in ${var.region}"
}

output "manage_mailboxes_uri" {
  description = "Where administrators connect, plan, show, stop and delete mailboxes."
  value       = google_cloudfunctions2_function.function["manage_mailboxes"].service_config[0].uri
}

output "trigger_sync_uri" {
  description = "Where administrators sync a mailbox on demand."
  value       = google_cloudfunctions2_function.function["trigger_sync"].service_config[0].uri
}

output "read_mailboxes_uri" {
  description = "Where applications get the bytes of attachments."
  value       = google_cloudfunctions2_function.function["read_mailboxes"].service_config[0].uri
}

output "delegation" {
  description = "What a Workspace administrator enters on the domain-wide delegation page: client id and scopes. None with oauth."
  value = var.gmail_auth == "delegation" ? {
    client_id = google_service_account.delegate[0].unique_id
    scopes    = join(",", concat(var.gmail_scopes, local.directory_scopes))
  } : null
}

output "oauth_client_secret" {
  description = "The secret that the OAuth client is to be added to as a version. None with delegation."
  value       = var.gmail_auth == "oauth" ? google_secret_manager_secret.oauth_client[0].secret_id : null
}

output "oauth_redirect_uri" {
  description = "The redirect URI to enter at the OAuth client, a web client. None without public_consent."
  value       = local.public_callback ? local.redirect_uri : null
}

output "firestore_database" {
  description = "The database that holds the mirror."
  value       = local.database
}

output "body_bucket" {
  description = "The bucket that holds bodies over 200 kB, and attachments that are kept."
  value       = local.body_bucket
}

output "topics" {
  description = "Full names of the topics: what Gmail publishes to and what the functions publish to."
  value       = { for name, topic in google_pubsub_topic.topic : name => topic.id }
}

output "delta_topic" {
  description = "Full name of the topic that applications subscribe to for changes. None without delta_topic."
  value       = one(google_pubsub_topic.deltas[*].id)
}

output "dead_letter_subscriptions" {
  description = "Names of the subscriptions where undeliverable messages wait for a person."
  value       = { for name, subscription in google_pubsub_subscription.dead_letters : name => subscription.name }
}

output "service_accounts" {
  description = "E-mail addresses of the functions' own service accounts."
  value       = { for name, account in google_service_account.function : name => account.email }
}

output "bundle" {
  description = "Name of the deployed bundle: the hash of what was in functions/."
  value       = google_storage_bucket_object.functions.name
}
