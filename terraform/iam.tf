# Who may do what. Every right is given on the one resource it is for. Where the resource cannot carry it (a database, secrets that
# do not exist yet, a bucket of the functions service) it is given in the project under a condition that names the resource.

locals {
  gmail_functions  = { for name, function in local.functions : name => function if function.gmail }
  database_title   = "mailmirror-database"
  database_only    = "resource.name == \"projects/${var.project}/databases/${var.firestore_database}\""
  tokens_only      = "resource.name.startsWith(\"projects/${local.project_number}/secrets/${local.token_prefix}\")"
  called_functions = { for name, function in local.functions : name => function if length(local.invokers[function.callers]) > 0 }

  invokers = {
    push      = [google_service_account.push.member]
    scheduler = [google_service_account.scheduler.member]
    admins    = var.admins
    readers   = var.readers
    # There is a function for them only with public_consent.
    browsers = ["allUsers"]
  }

  mirror_roles = {
    write   = google_project_iam_custom_role.mirror_writer.id
    connect = one(google_project_iam_custom_role.mirror_connector[*].id)
    read    = google_project_iam_custom_role.mirror_reader.id
  }
}

# Accounts

resource "google_service_account" "function" {
  for_each = local.functions

  account_id   = "mailmirror-${replace(each.key, "_", "-")}"
  display_name = "Mailmirror: ${each.key}"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "push" {
  account_id   = "mailmirror-push"
  display_name = "Mailmirror: as whom Pub/Sub calls"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "scheduler" {
  account_id   = "mailmirror-scheduler"
  display_name = "Mailmirror: as whom Cloud Scheduler calls"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "build" {
  account_id   = "mailmirror-build"
  display_name = "Mailmirror: builds the functions' image"

  depends_on = [google_project_service.api]
}

# Whom a Workspace administrator lets act as the domain's users. It has no key and no role.
resource "google_service_account" "delegate" {
  count = var.gmail_auth == "delegation" ? 1 : 0

  account_id   = "mailmirror-delegate"
  display_name = "Mailmirror: domain-wide delegation"

  depends_on = [google_project_service.api]
}

# Calls. The binding is the whole list: anybody added by hand is taken out by the next apply.

resource "google_cloud_run_service_iam_binding" "invoker" {
  for_each = local.called_functions

  location = var.region
  service  = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  members  = local.invokers[each.value.callers]

  lifecycle {
    # Of a function made anew, not of one that is only updated: nobody could call it meanwhile.
    replace_triggered_by = [google_cloudfunctions2_function.function[each.key].id]
  }
}

resource "google_service_account_iam_member" "token_creator" {
  count = var.grant_token_creator ? 1 : 0

  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
}

# Firestore: documents of the one database, not its settings.
#
# A role that was just made is not known everywhere for the first half minute, and cannot be given ("does not exist in the
# resource's hierarchy"). Whatever gives one waits for the indexes, which take longer.

resource "google_project_iam_custom_role" "mirror_writer" {
  role_id     = "mailmirrorMirrorWriter"
  title       = "Mailmirror: write the mirror"
  description = "Documents of a Firestore database: read and write."
  permissions = [
    "datastore.databases.get",
    "datastore.entities.create",
    "datastore.entities.delete",
    "datastore.entities.get",
    "datastore.entities.list",
    "datastore.entities.update",
  ]

  depends_on = [google_project_service.api]
}

# For the function that everybody may call: it makes mailboxes known and asks for their work, which takes nothing away.
resource "google_project_iam_custom_role" "mirror_connector" {
  count = local.public_callback ? 1 : 0

  role_id     = "mailmirrorMirrorConnector"
  title       = "Mailmirror: connect mailboxes"
  description = "Documents of a Firestore database: read and write, not delete."
  permissions = [
    "datastore.databases.get",
    "datastore.entities.create",
    "datastore.entities.get",
    "datastore.entities.list",
    "datastore.entities.update",
  ]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_custom_role" "mirror_reader" {
  role_id     = "mailmirrorMirrorReader"
  title       = "Mailmirror: read the mirror"
  description = "Documents of a Firestore database: read."
  permissions = [
    "datastore.databases.get",
    "datastore.entities.get",
    "datastore.entities.list",
  ]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "mirror" {
  for_each = local.functions

  project = var.project
  role    = local.mirror_roles[each.value.mirror]
  member  = google_service_account.function[each.key].member

  condition {
    title      = local.database_title
    expression = local.database_only
  }

  depends_on = [google_firestore_index.query]
}

resource "google_project_iam_member" "reader" {
  for_each = var.readers

  project = var.project
  role    = google_project_iam_custom_role.mirror_reader.id
  member  = each.key

  condition {
    title      = local.database_title
    expression = local.database_only
  }

  depends_on = [google_firestore_index.query]
}

# Large bodies and attachments

# A listing says which generation of an object there is, so that no other is deleted; storage.objects.get would say it
# too, and give the body with it.
resource "google_project_iam_custom_role" "body_writer" {
  role_id     = "mailmirrorBodyWriter"
  title       = "Mailmirror: write large bodies"
  description = "Objects of a bucket: create, replace, list and delete, not read."
  permissions = [
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.list",
  ]

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_iam_member" "body_writer" {
  for_each = { for name, function in local.functions : name => function if function.bodies == "write" }

  bucket = local.body_bucket
  role   = google_project_iam_custom_role.body_writer.id
  member = google_service_account.function[each.key].member

  depends_on = [google_firestore_index.query]
}

# Whoever asks for an object knows its name from the mirror. But that it is not there, Cloud Storage tells those alone who may list:
# all others are refused.
resource "google_project_iam_custom_role" "body_reader" {
  role_id     = "mailmirrorBodyReader"
  title       = "Mailmirror: read large bodies"
  description = "Objects of a bucket: read and list."
  permissions = [
    "storage.objects.get",
    "storage.objects.list",
  ]

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_iam_member" "body_reader" {
  for_each = { for name, function in local.functions : name => function if function.bodies == "read" }

  bucket = local.body_bucket
  role   = google_project_iam_custom_role.body_reader.id
  member = google_service_account.function[each.key].member

  depends_on = [google_firestore_index.query]
}

resource "google_storage_bucket_iam_member" "reader" {
  for_each = var.readers

  bucket = local.body_bucket
  role   = "roles/storage.objectViewer"
  member = each.key
}

# Gmail by delegation: a signature of the delegate, nothing else of it.

resource "google_project_iam_custom_role" "signer" {
  count = var.gmail_auth == "delegation" ? 1 : 0

  role_id     = "mailmirrorJwtSigner"
  title       = "Mailmirror: sign as the delegate"
  description = "Have a service account sign a JSON Web Token."
  permissions = ["iam.serviceAccounts.signJwt"]

  depends_on = [google_project_service.api]
}

resource "google_service_account_iam_member" "signer" {
  for_each = var.gmail_auth == "delegation" ? local.gmail_functions : {}

  service_account_id = google_service_account.delegate[0].name
  role               = google_project_iam_custom_role.signer[0].id
  member             = google_service_account.function[each.key].member

  depends_on = [google_firestore_index.query]
}

# Gmail by consent: the client, and the tokens that consents leave behind.

resource "google_secret_manager_secret_iam_member" "oauth_client" {
  for_each = var.gmail_auth == "oauth" ? local.gmail_functions : {}

  secret_id = google_secret_manager_secret.oauth_client[0].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.key].member
}

resource "google_project_iam_member" "tokens" {
  for_each = var.gmail_auth == "oauth" ? local.gmail_functions : {}

  project = var.project
  role    = "roles/secretmanager.secretAccessor"
  member  = google_service_account.function[each.key].member

  condition {
    title      = "mailmirror-tokens"
    expression = local.tokens_only
  }
}

# A consent is kept in a secret of its own, which is made when it is given and goes with the mailbox. IAM asks for the right to create on
# the project, where no secret has a name yet, so the condition lets the project through; the right to add a version is asked for on the
# secret, which is no project, and holds for those of this name alone. What is created under another name, nobody here could fill, read
# or delete.
# https://docs.cloud.google.com/iam/docs/configuring-resource-based-access
resource "google_project_iam_custom_role" "token_keeper" {
  count = var.gmail_auth == "oauth" ? 1 : 0

  role_id     = "mailmirrorTokenKeeper"
  title       = "Mailmirror: keep consents"
  description = "Secrets: create and add versions, not read."
  permissions = [
    "secretmanager.secrets.create",
    "secretmanager.versions.add",
  ]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "token_keeper" {
  for_each = { for name, function in local.functions : name => function if function.keeps && var.gmail_auth == "oauth" }

  project = var.project
  role    = google_project_iam_custom_role.token_keeper[0].id
  member  = google_service_account.function[each.key].member

  condition {
    title      = "mailmirror-tokens"
    expression = "resource.type == \"cloudresourcemanager.googleapis.com/Project\" || ${local.tokens_only}"
  }

  depends_on = [google_firestore_index.query]
}

# Deleting is a role of its own: not everybody who keeps consents may.
resource "google_project_iam_custom_role" "token_remover" {
  count = var.gmail_auth == "oauth" ? 1 : 0

  role_id     = "mailmirrorTokenRemover"
  title       = "Mailmirror: delete consents"
  description = "Secrets: delete, not read."
  permissions = ["secretmanager.secrets.delete"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "token_remover" {
  for_each = { for name, function in local.functions : name => function if function.forgets && var.gmail_auth == "oauth" }

  project = var.project
  role    = google_project_iam_custom_role.token_remover[0].id
  member  = google_service_account.function[each.key].member

  condition {
    title      = "mailmirror-tokens"
    expression = local.tokens_only
  }

  depends_on = [google_firestore_index.query]
}

# The build: reads the bundle and the copy that the functions service makes of it, writes the image and its log.
# https://docs.cloud.google.com/functions/docs/building

resource "google_artifact_registry_repository_iam_member" "build_writer" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_project_iam_member" "build_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

resource "google_project_iam_member" "build_source" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title      = "mailmirror-source"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.source.name}\") || resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${local.project_number}-\")"
  }
}
