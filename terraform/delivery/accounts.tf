# As whom builds work, and what they may do. No account here can read mail or a secret's value with the rights it is
# given.
#
# Deploying is a mighty right all the same: who may write a function's code, a custom role or a resource's policy can
# have the deployment read whatever it stores. That is why mailmirror-deploy runs nothing but a plan that was made from
# main, and only after an approval.

locals {
  stages = {
    review = "plans what a pull request would change"
    plan   = "plans what main changes"
    deploy = "applies the plan of main"
  }

  # Settings and policies of what ../*.tf manages, in order that they can be compared with it.
  # datastore.databases.getMetadata is a database's settings; datastore.databases.get would be the beginning of a
  # transaction.
  # https://docs.cloud.google.com/firestore/native/docs/security/iam
  read = [
    "artifactregistry.repositories.get",
    "artifactregistry.repositories.getIamPolicy",
    "artifactregistry.repositories.list",
    "cloudfunctions.functions.get",
    "cloudfunctions.functions.list",
    # Without it a job is shown without what it calls, and every plan would set that anew.
    "cloudscheduler.jobs.fullView",
    "cloudscheduler.jobs.get",
    "datastore.backupSchedules.get",
    "datastore.backupSchedules.list",
    "datastore.databases.getMetadata",
    "datastore.databases.list",
    "datastore.schemas.get",
    "datastore.schemas.list",
    "iam.roles.get",
    "iam.roles.list",
    "iam.serviceAccounts.get",
    "iam.serviceAccounts.getIamPolicy",
    "iam.serviceAccounts.list",
    "logging.exclusions.get",
    "logging.exclusions.list",
    "logging.logMetrics.get",
    "logging.logMetrics.list",
    "monitoring.alertPolicies.get",
    "monitoring.alertPolicies.list",
    "monitoring.dashboards.get",
    "monitoring.dashboards.list",
    "pubsub.subscriptions.get",
    "pubsub.subscriptions.getIamPolicy",
    "pubsub.topics.get",
    "pubsub.topics.getIamPolicy",
    "resourcemanager.projects.get",
    "resourcemanager.projects.getIamPolicy",
    "run.services.get",
    "run.services.getIamPolicy",
    "secretmanager.secrets.get",
    "secretmanager.secrets.getIamPolicy",
    "serviceusage.services.get",
    "serviceusage.services.list",
    "storage.buckets.get",
    "storage.buckets.getIamPolicy",
  ]

  # Making and changing the same. What is not in the list is left to people: deleting the database, a bucket or a
  # secret, turning an API off, publishing or pulling messages, keys and tokens of accounts.
  write = [
    "artifactregistry.repositories.create",
    "artifactregistry.repositories.delete",
    "artifactregistry.repositories.setIamPolicy",
    "artifactregistry.repositories.update",
    "cloudfunctions.functions.create",
    "cloudfunctions.functions.delete",
    "cloudfunctions.functions.update",
    "cloudfunctions.operations.get",
    "cloudscheduler.jobs.create",
    "cloudscheduler.jobs.delete",
    "cloudscheduler.jobs.enable",
    "cloudscheduler.jobs.pause",
    "cloudscheduler.jobs.update",
    "datastore.backupSchedules.create",
    "datastore.backupSchedules.delete",
    "datastore.backupSchedules.update",
    "datastore.databases.create",
    "datastore.databases.update",
    # A database is made in a location, which has to be looked up.
    "datastore.locations.get",
    "datastore.locations.list",
    "datastore.operations.get",
    "datastore.schemas.create",
    "datastore.schemas.delete",
    "datastore.schemas.update",
    # Accounts cannot be told apart by name in a condition of IAM, so this is every account of the project.
    # https://docs.cloud.google.com/iam/docs/conditions-resource-attributes
    "iam.serviceAccounts.actAs",
    "iam.serviceAccounts.create",
    "iam.serviceAccounts.delete",
    "iam.serviceAccounts.setIamPolicy",
    "iam.serviceAccounts.update",
    "iam.roles.create",
    "iam.roles.delete",
    "iam.roles.undelete",
    "iam.roles.update",
    "logging.exclusions.create",
    "logging.exclusions.delete",
    "logging.exclusions.update",
    "logging.logMetrics.create",
    "logging.logMetrics.delete",
    "logging.logMetrics.update",
    "monitoring.alertPolicies.create",
    "monitoring.alertPolicies.delete",
    "monitoring.alertPolicies.update",
    "monitoring.dashboards.create",
    "monitoring.dashboards.delete",
    "monitoring.dashboards.update",
    "pubsub.subscriptions.create",
    "pubsub.subscriptions.delete",
    "pubsub.subscriptions.setIamPolicy",
    "pubsub.subscriptions.update",
    "pubsub.topics.attachSubscription",
    "pubsub.topics.create",
    "pubsub.topics.delete",
    "pubsub.topics.setIamPolicy",
    "pubsub.topics.update",
    "run.services.setIamPolicy",
    "secretmanager.secrets.create",
    "secretmanager.secrets.setIamPolicy",
    "secretmanager.secrets.update",
    "serviceusage.operations.get",
    "serviceusage.services.enable",
    "storage.buckets.create",
    "storage.buckets.setIamPolicy",
    "storage.buckets.update",
  ]

  # Roles that ../iam.tf gives in the project as a whole. IAM takes ten at most in one condition.
  granted = [
    "projects/${var.project}/roles/mailmirrorMirrorConnector",
    "projects/${var.project}/roles/mailmirrorMirrorReader",
    "projects/${var.project}/roles/mailmirrorMirrorWriter",
    "projects/${var.project}/roles/mailmirrorTokenKeeper",
    "projects/${var.project}/roles/mailmirrorTokenRemover",
    "roles/logging.logWriter",
    "roles/secretmanager.secretAccessor",
    "roles/storage.objectViewer",
  ]
}

resource "google_service_account" "stage" {
  for_each = local.stages

  account_id   = "mailmirror-${each.key}"
  display_name = "Mailmirror: ${each.value}"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_custom_role" "planner" {
  role_id     = "mailmirrorPlanner"
  title       = "Mailmirror: plan a deployment"
  description = "Settings and policies of what a deployment consists of: read. No mail, secret or message."
  permissions = local.read

  depends_on = [google_project_service.api]
}

resource "google_project_iam_custom_role" "deployer" {
  role_id     = "mailmirrorDeployer"
  title       = "Mailmirror: deploy"
  description = "Settings and policies of what a deployment consists of: read and write. No mail, secret or message."
  permissions = concat(local.read, local.write)

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "stage" {
  for_each = {
    review = google_project_iam_custom_role.planner.id
    plan   = google_project_iam_custom_role.planner.id
    deploy = google_project_iam_custom_role.deployer.id
  }

  project = var.project
  role    = each.value
  member  = google_service_account.stage[each.key].member
}

resource "google_project_iam_member" "logs" {
  for_each = local.stages

  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.stage[each.key].member
}

# Bundles: looked at to plan, uploaded to deploy. The bucket is one that ../storage.tf makes.
resource "google_project_iam_member" "bundles" {
  for_each = {
    review = "roles/storage.objectViewer"
    plan   = "roles/storage.objectViewer"
    deploy = "roles/storage.objectUser"
  }

  project = var.project
  role    = each.value
  member  = google_service_account.stage[each.key].member

  condition {
    title      = "mailmirror-source"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.project}-mailmirror-source/\")"
  }
}

# Giving rights in the project: these roles, no other.
# https://docs.cloud.google.com/iam/docs/setting-limits-on-granting-roles
resource "google_project_iam_member" "grants" {
  project = var.project
  role    = "roles/resourcemanager.projectIamAdmin"
  member  = google_service_account.stage["deploy"].member

  condition {
    title      = "mailmirror-roles"
    expression = "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([${join(", ", [for role in local.granted : "'${role}'"])}])"
  }
}
