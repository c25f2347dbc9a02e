"""All that knows Ray: the cluster, the driver actor and the workers."""
